"""Workers that must leave while they are busy: their pool is deleted, or their node drained. Nothing is interrupted."""

import threading

import pytest
from millpond_api import LABEL_BUSY

from tests.support.kube import Body, condition, make_client
from tests.support.stage import Stage, assert_untouched, steps_of

SECONDS = 12.0
"""Many times the grace period."""
SHORT_GRACE = {"gracePeriod": "1s"}
CALM = {"lease": "10s"}


def busy_pool(stage: Stage, workers: int, busy: int) -> dict[str, str]:
    """A pool with that many workers, some of them busy; the worker of each task."""
    stage.make_pool(scaling={"minWorkers": workers, "maxWorkers": workers}, timeouts=CALM, shutdown=SHORT_GRACE)
    stage.wait_ready(workers)
    return stage.wait_running(stage.submit("sleep", *([SECONDS, number] for number in range(busy))))


def wait_marked(stage: Stage, workers: set[str]) -> None:
    def look() -> bool:
        marked = {pod["metadata"]["name"] for pod in stage.pods() if LABEL_BUSY in pod["metadata"]["labels"]}
        return marked == workers

    stage.wait(look, f"the busy label on exactly {sorted(workers)}")


def try_evict(stage: Stage, pod: str) -> int:
    """The status of one eviction: 201 when it is granted, 429 when a budget refuses."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": stage.namespace}}
    # Not by the stage's own client, which takes a 429 for a busy API server and asks again.
    with make_client(stage.kube.kubeconfig) as http:
        return http.post(stage.kube.path("pods", pod, "eviction"), json=body).status_code


def test_deleting_a_pool_lets_its_busy_workers_finish_and_then_leaves_nothing(stage: Stage) -> None:
    runs = busy_pool(stage, 3, 2)
    stage.kube.delete("workerpools", "work")
    tasks = stage.wait_ended(runs)
    assert_untouched(tasks)
    assert {name: task["worker"] for name, task in tasks.items()} == runs
    stage.wait(lambda: not stage.kube.deployments("work") and not stage.pods(), "nothing left of the pool")


def test_a_pool_deleted_and_made_again_takes_its_busy_workers_over(stage: Stage) -> None:
    runs = busy_pool(stage, 2, 1)
    stage.kube.delete("workerpools", "work")
    stage.make_pool(scaling={"minWorkers": 2, "maxWorkers": 2}, timeouts=CALM, shutdown=SHORT_GRACE)
    assert_untouched(stage.wait_ended(runs))
    stage.wait_ready(2)
    (name,) = stage.submit("echo", ["again"], prefix="again")
    assert stage.wait_ended([name])[name]["result"] == "again"


def test_an_idle_worker_can_be_evicted_at_once_and_a_busy_one_when_it_is_done(stage: Stage) -> None:
    runs = busy_pool(stage, 2, 1)
    ((_, worker),) = runs.items()
    wait_marked(stage, {worker})
    (other,) = {pod["metadata"]["name"] for pod in stage.pods()} - {worker}
    assert try_evict(stage, worker) == 429
    assert try_evict(stage, other) == 201
    assert_untouched(stage.wait_ended(runs))
    stage.wait(lambda: try_evict(stage, worker) in (201, 404), "the eviction granted after its work")


@pytest.mark.alone
def test_draining_the_node_waits_for_busy_workers_while_their_queue_is_never_empty(stage: Stage) -> None:
    runs = busy_pool(stage, 2, 2)
    stage.submit("sleep", *([1.0, number] for number in range(60)), prefix="more")
    wait_marked(stage, set(runs.values()))
    (node,) = stage.kube.request("GET", "/api/v1/nodes")["items"]
    name = node["metadata"]["name"]
    drain = ["drain", name, "--pod-selector=millpond.dev/pool=work", "--timeout=120s", "--delete-emptydir-data"]
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(stage.kube.kubectl(*drain)))
    thread.start()
    try:
        assert_untouched(stage.wait_ended(runs))
        thread.join(timeout=130)
        assert said, "kubectl drain did not come to its end"
        gone = set(runs.values()) & {pod["metadata"]["name"] for pod in stage.pods()}
        assert gone == set()
    finally:
        stage.kube.kubectl("uncordon", name)
    more = [task for task in stage.tasks() if task.startswith("more")]
    assert_untouched(stage.wait_ended(more))


def test_a_drain_that_takes_long_names_the_task_that_holds_it(stage: Stage) -> None:
    runs = busy_pool(stage, 2, 2)
    stage.kube.kubectl("scale", "workerpool/work", "--replicas=1")

    def held() -> Body | None:
        found = condition(stage.kube.get("workerpools", "work"), "Draining")
        assert found.get("reason") == "Stalled", found
        return found

    message = stage.wait(held, "the condition naming what holds the drain")["message"]
    task = next(name for name in runs if name in message)
    assert message.startswith(f"held by task {task} (sleep, running since ")
    assert f"on worker {runs[task]}" in message
    assert_untouched(stage.wait_ended(runs))
    stage.wait(
        lambda: condition(stage.kube.get("workerpools", "work"), "Draining")["status"] == "False", "nobody drains"
    )
    for name, worker in stage.workers().items():
        assert "Failed" not in steps_of(worker), (name, worker)
