"""The busy label and the budget that selects it, on a real API server with a real worker process."""

import time

from millpond_api import LABEL_BUSY, LABEL_POOL

from tests.support.eventually import eventually_sync
from tests.support.works import FIGURES, LOOK, Works

LONG = 60.0


def is_marked(works: Works, pod: str) -> bool:
    return LABEL_BUSY in works.kube.get("pods", pod)["metadata"]["labels"]


def test_a_worker_carries_the_busy_label_while_it_runs_something(own_works: Works) -> None:
    works, pool = own_works, "guard"
    works.start_operator(watch_namespace="")
    works.make_pool(pool, scaling={"maxWorkers": 0})
    works.pool_is_ready(pool)
    # A pod that stands for the worker process: no node is there to run it.
    spec = {"containers": [{"name": "worker", "image": "none:1"}]}
    works.kube.create("pods", {"metadata": {"name": "w1", "labels": {LABEL_POOL: pool}}, "spec": spec})
    works.start_worker(pool, "w1")
    gate = works.gate("held")
    works.make_task("held", pool, "gate", [gate.path])
    gate.entered_sync()
    began = time.monotonic()
    eventually_sync(lambda: is_marked(works, "w1"), LONG, "the busy label", LOOK)
    FIGURES.append(f"a busy worker's pod was labelled after {time.monotonic() - began:.2f} s")
    (budget,) = works.kube.list("poddisruptionbudgets")
    assert budget["spec"]["maxUnavailable"] == 0
    assert budget["spec"]["selector"]["matchLabels"] == {LABEL_POOL: pool, LABEL_BUSY: "true"}
    gate.open()
    works.reaches("held", "Succeeded")
    eventually_sync(lambda: not is_marked(works, "w1"), LONG, "the label gone", LOOK)
