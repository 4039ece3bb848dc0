"""The leading operator is killed while hundreds of tasks run: the other takes over and no status stays behind."""

import time

import pytest

from tests.support.faults import delete_by_force, kill_process
from tests.support.kube import Kube
from tests.support.logs import assert_statuses_tell_the_logs
from tests.support.release import NAMESPACE, pod_of, read_leader
from tests.support.stage import Stage, assert_untouched

TASKS = 500
SECONDS = 0.6
"""On twenty slots 15 s in all: longer than it takes until somebody leads again."""
TAKEOVER = 60.0
"""Seconds allowed; the Lease runs out after 10."""


def _delete(kube: Kube, leader: str) -> None:
    delete_by_force(kube, pod_of(leader))


def _kill(kube: Kube, leader: str) -> None:
    kill_process(kube.get("pods", pod_of(leader)), "millpond_operator")


@pytest.mark.alone
@pytest.mark.parametrize("fault", [_delete, _kill], ids=["delete --force", "kill -9"])
def test_leader_killed_while_500_tasks_run_leaves_no_status_stale(stage: Stage, fault: object) -> None:
    assert callable(fault)
    stage.make_pool(concurrency=10, scaling={"minWorkers": 2, "maxWorkers": 2})
    stage.wait_ready(2)
    leader = stage.wait(lambda: read_leader(stage.kube), "a leader")
    names = stage.submit("sleep", *([SECONDS, number] for number in range(TASKS)))
    stage.wait(lambda: stage.phases()["Succeeded"] >= TASKS // 20, "the first tasks done")
    fault(stage.kube.within(NAMESPACE), leader)

    began = time.monotonic()
    lease = stage.wait(lambda: _taken_over(stage, leader), "another leader", TAKEOVER)
    took = time.monotonic() - began
    ended = stage.wait_ended(names)
    everything = time.monotonic() - began
    stage.say(f"the other operator led after {took:.1f} s ({leader} → {lease})")
    stage.say(f"all {TASKS} statuses stood {everything:.1f} s after the kill")
    assert took < TAKEOVER
    assert_untouched(ended)
    assert sorted(status["result"] for status in ended.values()) == list(range(TASKS))
    assert_statuses_tell_the_logs(stage, names)
    counts = stage.wait(lambda: _all_counted(stage), "the pool's counts")
    assert counts["succeeded"] == TASKS


def _taken_over(stage: Stage, before: str) -> str | None:
    leader = read_leader(stage.kube)
    return leader if leader and leader != before else None


def _all_counted(stage: Stage) -> dict[str, int] | None:
    counts: dict[str, int] = stage.pool().get("tasks", {})
    return counts if counts.get("succeeded") == TASKS else None
