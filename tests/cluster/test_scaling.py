"""The Deployment follows the queue or a person's hand; the queue goes with its pool only when told to."""

import asyncio
import time
from typing import Any

import pytest
from millpond_api import subjects

from tests.support import nats
from tests.support.eventually import eventually_sync
from tests.support.kube import Body, condition
from tests.support.works import LONG, Works, show

WAKE_BOUND = 60.0
"""Seconds from submission to the patched Deployment: milliseconds on an idle machine, many seconds on a busy one."""


def status_of(works: Works, pool: str) -> Body:
    found: Body = works.kube.get("workerpools", pool).get("status") or {}
    return found


def wake_seconds(works: Works, pool: str, tasks: int = 3) -> float:
    """Submit tasks to a pool at zero; seconds until the Deployment has a replica for each."""
    works.make_pool(pool, scaling={"maxWorkers": 5, "idleAfter": "1s", "scaleDown": {"stabilization": "1s"}})
    works.pool_is_ready(pool)
    # Seen at zero by the scaler: from here on it listens.
    eventually_sync(lambda: condition(works.kube.get("workerpools", pool), "Ready").get("reason") == "AtZero", LONG)
    began = time.monotonic()
    for number in range(tasks):
        works.make_task(f"{pool}-{number}", pool)
    works.scales_to(pool, tasks)
    return time.monotonic() - began


def test_a_task_wakes_its_pool_from_zero_and_the_pool_goes_back(works: Works, pool: str) -> None:
    seconds = wake_seconds(works, pool)
    eventually_sync(lambda: wake_delays(works, pool), LONG, "a ledger entry with the wake's delay")
    delays = wake_delays(works, pool)
    show(f"from zero by push: 3 Tasks created → 3 replicas in {seconds:.2f} s; {delays} ms from publish")
    assert min(delays) < WAKE_BOUND * 1000
    works.start_worker(pool)
    works.all_reach("Succeeded", pool, 3)
    works.scales_to(pool, 0)
    # The status is written after the Deployment: what is seen there may be a moment ahead of the ledger.
    eventually_sync(lambda: status_of(works, pool)["decisions"][0]["to"] == 0, LONG, "the last decision in the ledger")
    assert status_of(works, pool)["decisions"][-1]["from"] == 0


def wake_delays(works: Works, pool: str) -> list[float]:
    """Milliseconds from a task's publish to the patch, as the ledger has them."""
    entries = status_of(works, pool).get("decisions") or []
    return [entry["inputs"]["wakeDelayMs"] for entry in entries if "wakeDelayMs" in entry["inputs"]]


def test_a_task_older_than_its_pool_has_its_wait_in_the_ledger_too(works: Works, pool: str) -> None:
    """The first decision comes before anything listens to the new queue: the queue itself says since when it waits."""
    works.make_task(f"{pool}-0", pool)
    works.make_pool(pool, scaling={"maxWorkers": 5})
    works.scales_to(pool, 1)
    eventually_sync(lambda: wake_delays(works, pool), LONG, "a ledger entry with the delay")


def test_without_push_the_tick_wakes_the_pool(own_works: Works) -> None:
    own_works.start_operator(push_wake="false")
    seconds = wake_seconds(own_works, "slow")
    show(f"from zero by the tick of 1 s: 3 Tasks created → 3 replicas in {seconds:.2f} s")
    assert wake_delays(own_works, "slow") == []


def test_workers_never_exceed_their_bound_however_long_the_queue_is(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"minWorkers": 1, "maxWorkers": 2})
    works.scales_to(pool, 1)
    for number in range(8):
        works.make_task(f"{pool}-{number}", pool)
    works.scales_to(pool, 2)
    eventually_sync(lambda: status_of(works, pool).get("lag") == 8, LONG, "a lag of 8")
    assert works.deployment_replicas(pool) == 2
    eventually_sync(
        lambda: "maxWorkers" in condition(works.kube.get("workerpools", pool), "Scaling").get("message", ""),
        LONG,
        "the bound in the sentence",
    )


def test_kubectl_scale_holds_the_number_until_it_is_removed(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"maxWorkers": 5, "idleAfter": "1s", "scaleDown": {"stabilization": "1s"}})
    works.pool_is_ready(pool)
    works.kube.kubectl("scale", f"workerpool/{pool}", "--replicas=3")
    assert works.kube.get("workerpools", pool)["spec"]["replicas"] == 3
    works.scales_to(pool, 3)
    # A task would need one worker: what a person set stands.
    works.make_task(f"{pool}-a", pool)
    eventually_sync(lambda: status_of(works, pool).get("lag") == 1, LONG, "the task seen in the queue")
    assert status_of(works, pool)["mode"] == "Manual"
    assert works.deployment_replicas(pool) == 3
    works.kube.kubectl("scale", f"workerpool/{pool}", "--replicas=1")
    works.scales_to(pool, 1)
    works.start_worker(pool)
    works.reaches(f"{pool}-a", "Succeeded")
    removal = '[{"op":"remove","path":"/spec/replicas"}]'
    works.kube.kubectl("patch", "workerpool", pool, "--type=json", "-p", removal)
    works.scales_to(pool, 0)
    eventually_sync(lambda: status_of(works, pool)["mode"] == "Auto", LONG, "the mode in the status")


def test_a_paused_pool_keeps_its_workers_whatever_the_queue_says(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"minWorkers": 1, "maxWorkers": 5})
    works.scales_to(pool, 1)
    works.kube.patch("workerpools", pool, {"spec": {"scaling": {"pause": "All"}}})
    eventually_sync(lambda: condition(works.kube.get("workerpools", pool), "Paused").get("status") == "True", LONG)
    for number in range(3):
        works.make_task(f"{pool}-{number}", pool)
    eventually_sync(lambda: status_of(works, pool).get("lag") == 3, LONG, "the tasks seen in the queue")
    assert works.deployment_replicas(pool) == 1
    works.kube.patch("workerpools", pool, {"spec": {"scaling": {"pause": "None"}}})
    works.scales_to(pool, 3)


def test_a_deployment_that_somebody_deleted_or_scaled_comes_back(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"minWorkers": 2, "maxWorkers": 2})
    works.scales_to(pool, 2)
    (made,) = works.kube.deployments(pool)
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    works.kube.patch("deployments", name, {"spec": {"replicas": 0}}, "scale")
    works.scales_to(pool, 2)
    works.kube.delete("deployments", name)

    def is_another() -> bool:
        body = works.kube.find("deployments", name)
        return body is not None and body["metadata"]["uid"] != uid

    eventually_sync(is_another, LONG, "another Deployment", 0.1)
    works.scales_to(pool, 2)


def test_a_changed_pool_changes_the_pods_of_its_deployment(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.pool_is_ready(pool)
    works.kube.patch("workerpools", pool, {"spec": {"concurrency": 7, "shutdown": {"gracePeriod": "1m"}}})

    def seen() -> bool:
        pod = works.kube.deployments(pool)[-1]["spec"]["template"]["spec"]
        environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        return environment["MILLPOND_CONCURRENCY"] == "7" and pod["terminationGracePeriodSeconds"] == 65

    eventually_sync(seen, LONG, "the change in the pod's template", 0.1)


def test_the_queue_goes_with_its_pool_only_when_the_reclaim_policy_says_so(works: Works, pool: str) -> None:
    works.make_pool(f"{pool}-keep", queue={"reclaimPolicy": "Retain"})
    works.make_pool(f"{pool}-drop", queue={"reclaimPolicy": "Delete"})
    for name in ("keep", "drop"):
        works.pool_is_ready(f"{pool}-{name}")
        works.make_task(f"{pool}-{name}", f"{pool}-{name}")
        works.reaches(f"{pool}-{name}", "Queued")
        works.kube.delete("workerpools", f"{pool}-{name}")
    eventually_sync(lambda: stream(works, f"{pool}-drop") is None, LONG, "the end of the queue", 0.1)
    kept = stream(works, f"{pool}-keep")
    assert kept is not None
    assert kept["state"]["messages"] == 1
    # The same pool made again finds its task waiting.
    works.make_pool(f"{pool}-keep", queue={"reclaimPolicy": "Retain"})
    works.start_worker(f"{pool}-keep")
    works.reaches(f"{pool}-keep", "Succeeded")


def stream(works: Works, pool: str) -> dict[str, Any] | None:
    """What NATS knows of the pool's stream."""

    async def look() -> dict[str, Any] | None:
        async with nats.connected(works.server.url) as connection:
            try:
                return await nats.api(connection, f"STREAM.INFO.{subjects.pool_stream(works.namespace, pool)}")
            except nats.ApiError:
                return None

    return asyncio.run(look())


@pytest.mark.parametrize("field", ["maxDepth", "classes"])
def test_a_changed_queue_is_changed_on_the_server(works: Works, pool: str, field: str) -> None:
    works.make_pool(pool)
    works.pool_is_ready(pool)
    change: dict[str, Any] = {"maxDepth": 7} if field == "maxDepth" else {"classes": ["urgent", "default"]}
    works.kube.patch("workerpools", pool, {"spec": {"queue": change}})

    def seen() -> bool:
        info = stream(works, pool) or {"config": {}, "state": {}}
        depth, consumers = info["config"].get("max_msgs"), info["state"].get("consumer_count")
        return depth == 7 if field == "maxDepth" else consumers == 2

    eventually_sync(seen, LONG, f"the changed {field}", 0.1)
