"""Rules that need the world: the clock, the nodes, what workers measure. What is refused is told in one sentence."""

from typing import Any

from tests.cluster.test_ledger import read_records
from tests.support.eventually import eventually_sync
from tests.support.kube import Body, condition
from tests.support.works import LONG, Works

EVERY_MINUTE, LEAP_DAY = "* * * * *", "0 0 29 2 *"
SLOW = 2.0
"""Seconds of a slow task: far above what a busy machine makes of one that sleeps 0.05 s."""


def says(works: Works, pool: str, kind: str, *words: str) -> Body:
    """The pool's condition, once its sentence has all the words."""

    def look() -> Body | None:
        found = condition(works.kube.get("workerpools", pool), kind)
        assert all(word in found.get("message", "") for word in words), found
        return found

    return eventually_sync(look, LONG, f"{kind} of {pool} saying {words}", 0.1) or {}


def test_an_active_schedule_is_a_floor_that_the_sentence_names(works: Works, pool: str) -> None:
    schedule = {"name": "office", "start": EVERY_MINUTE, "end": LEAP_DAY, "timeZone": "Europe/Berlin", "minWorkers": 2}
    works.make_pool(pool, scaling={"maxWorkers": 5, "schedules": [schedule]})
    works.scales_to(pool, 2)
    says(works, pool, "Scaling", "office", "2")


def test_a_schedule_that_cannot_be_read_is_told_and_holds_nothing_else_up(works: Works, pool: str) -> None:
    schedule = {"name": "mars", "start": EVERY_MINUTE, "end": LEAP_DAY, "timeZone": "Mars/Olympus", "minWorkers": 3}
    works.make_pool(pool, scaling={"maxWorkers": 5, "schedules": [schedule]})
    works.make_task(f"{pool}-0", pool)
    works.scales_to(pool, 1)
    # The reason is soon that of the pod, which waits at its gate; the sentence tells both.
    assert says(works, pool, "Degraded", "mars", "Mars/Olympus")["status"] == "True"


def test_pods_that_no_node_has_room_for_stop_the_climb_and_are_told(works: Works, pool: str) -> None:
    """There is no node here: without its gate a pod is unschedulable."""
    works.make_pool(pool, scaling={"minWorkers": 1, "maxWorkers": 5}, template={})
    works.scales_to(pool, 1)
    eventually_sync(
        lambda: condition(works.kube.get("workerpools", pool), "Degraded").get("reason") == "Unschedulable", LONG
    )
    for number in range(4):
        works.make_task(f"{pool}-{number}", pool)
    says(works, pool, "Scaling", "4 waiting", "no node", "stays at 1")
    assert works.deployment_replicas(pool) == 1


def test_a_latency_target_knows_how_long_each_class_takes(works: Works, pool: str) -> None:
    """The worker's process bears the name of the pool's pod, as it does in a cluster."""
    scaling = {"minWorkers": 1, "maxWorkers": 3, "target": {"latency": "5s"}}
    works.make_pool(pool, scaling=scaling, queue={"classes": ["urgent", "default"]})
    works.scales_to(pool, 1)
    (pod,) = eventually_sync(lambda: pods_of(works, pool), LONG, "its pod")
    works.start_worker(pool, pod, classes="urgent,default")
    for number in range(3):
        works.make_task(f"{pool}-u{number}", pool, "block", [SLOW], **{"class": "urgent"})
        works.make_task(f"{pool}-d{number}", pool, "block", [0.05])

    def measured() -> dict[str, float]:
        for record in reversed(read_records(works, pool)):
            times = {one.name: one.service_seconds for one in record.seen.classes if one.service_seconds is not None}
            if len(times) == 2:
                return times
        return {}

    times = eventually_sync(measured, LONG, "the service times of both classes", 0.3)
    assert times["urgent"] > SLOW > times["default"] > 0.05

    def arrived() -> dict[str, float | None]:
        return {one.name: one.arrived for one in read_records(works, pool)[-1].seen.classes}

    eventually_sync(lambda: arrived() == {"urgent": 3, "default": 3}, LONG, "all that arrived", 0.3)


def pods_of(works: Works, pool: str) -> list[str]:
    return [
        body["metadata"]["name"]
        for body in works.kube.list("pods")
        if body["metadata"]["labels"].get("millpond.dev/pool") == pool
    ]


def test_a_latency_target_sees_how_many_tasks_arrived(works: Works, pool: str) -> None:
    scaling: dict[str, Any] = {"minWorkers": 1, "maxWorkers": 9, "target": {"latency": "10s"}}
    works.make_pool(pool, scaling=scaling)
    works.start_worker(pool)
    for number in range(5):
        works.make_task(f"{pool}-{number}", pool)
    works.all_reach("Succeeded", pool, 5)
    # The first record after an arrival may have been made while others were still to come.
    eventually_sync(lambda: read_records(works, pool)[-1].seen.arrived == 5, LONG, "five arrivals", 0.3)
    assert read_records(works, pool)[-1].policy.latency == 10.0
