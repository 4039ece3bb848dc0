"""A changed pool while its workers are busy: what runs is finished by the old version, however long that takes."""

from typing import Any

import pytest

from tests.support.faults import kill_process
from tests.support.kube import Body, condition
from tests.support.release import APP_IMAGE, NAMESPACE, pod_of, read_leader
from tests.support.stage import Stage, assert_untouched, steps_of

LONG = 14.0
"""Seconds that a long task runs: many times the grace period."""
SHORT_GRACE = {"gracePeriod": "1s"}
CALM = {"lease": "10s"}
"""No worker dies here: a short lease would only let a slow machine look like a lost worker."""


def colour(value: str) -> list[dict[str, str]]:
    return [{"name": "COLOUR", "value": value}]


def coloured_pool(stage: Stage, workers: int, **spec: Any) -> None:
    stage.make_pool(
        scaling={"minWorkers": workers, "maxWorkers": workers},
        timeouts=CALM,
        shutdown=SHORT_GRACE,
        env=colour("blue"),
        **spec,
    )
    stage.wait_ready(workers)


def paint(stage: Stage, value: str) -> None:
    stage.kube.patch("workerpools", "work", {"spec": {"env": colour(value)}})


def rollout_phase(stage: Stage) -> str:
    return str(stage.pool().get("rollout", {}).get("phase"))


def wait_complete(stage: Stage, workers: int) -> None:
    """The rollout is over and one version is left."""

    def look() -> Body | None:
        status = stage.pool()
        assert status["rollout"]["phase"] == "Complete", status["rollout"]
        assert [version["replicas"] for version in status["versions"]] == [workers], status["versions"]
        return status

    stage.wait(look, "the end of the rollout")
    stage.wait_ready(workers)


def assert_nobody_was_cut_off(stage: Stage) -> None:
    """No worker failed. One may be called Lost for a moment: a new leader has heard nobody yet."""
    for name, worker in stage.workers().items():
        assert "Failed" not in steps_of(worker), (name, worker)


def test_rollout_under_tasks_far_longer_than_the_grace_period_interrupts_none(stage: Stage) -> None:
    coloured_pool(stage, 3)
    old = stage.submit("environment", *(["COLOUR", LONG] for _ in range(3)), prefix="old")
    stage.wait_running(old)
    paint(stage, "green")
    stage.wait(lambda: rollout_phase(stage) == "RollingOut", "the rollout under way")
    assert condition(stage.kube.get("workerpools", "work"), "Progressing")["status"] == "True"
    new = stage.submit("environment", *(["COLOUR", 0.1] for _ in range(6)), prefix="new")
    tasks = stage.wait_ended([*old, *new])
    assert_untouched(tasks)
    assert {tasks[name]["result"] for name in old} == {"blue"}
    assert "green" in {tasks[name]["result"] for name in new}
    wait_complete(stage, 3)
    assert_nobody_was_cut_off(stage)


def test_a_second_rollout_during_the_first_interrupts_none(stage: Stage) -> None:
    coloured_pool(stage, 2)
    # Long enough for a green worker to be there before them, on a slow machine too.
    first = stage.submit("environment", *(["COLOUR", 2 * LONG] for _ in range(2)), prefix="first")
    stage.wait_running(first)
    paint(stage, "green")
    second = stage.submit("environment", ["COLOUR", LONG], prefix="second")
    stage.wait_running(second)
    paint(stage, "red")
    stage.wait(lambda: len(stage.pool()["versions"]) == 3, "three versions")
    tasks = stage.wait_ended([*first, *second])
    assert_untouched(tasks)
    assert [tasks[name]["result"] for name in (*first, *second)] == ["blue", "blue", "green"]
    wait_complete(stage, 2)
    (last,) = stage.submit("environment", ["COLOUR"], prefix="last")
    assert stage.wait_ended([last])[last]["result"] == "red"
    assert_nobody_was_cut_off(stage)


def test_a_pool_shrinks_while_an_old_worker_finishes_a_long_task(stage: Stage) -> None:
    coloured_pool(stage, 3, rollout={"maxSurge": "100%"})
    old = stage.submit("environment", ["COLOUR", 2 * LONG], prefix="old")
    stage.wait_running(old)
    paint(stage, "green")
    # The surge: three new ones are ready beside the old one that is busy.
    stage.wait_ready(4)
    stage.kube.patch("workerpools", "work", {"spec": {"scaling": {"minWorkers": 0}}})

    def has_shrunk() -> bool:
        ready = {one["version"]: one["replicas"] for one in stage.pool()["versions"]}
        return sorted(ready.values()) == [1, 1]

    stage.wait(has_shrunk, "one new worker, and the busy old one")
    assert stage.phases(old) == {"Running": 1}
    assert_untouched(stage.wait_ended(old))
    assert_nobody_was_cut_off(stage)


CANARY = {"share": 34, "duration": "30s", "maxFailureRate": 0.2, "minTasks": 3}


def canary_pool(stage: Stage, workers: int, **rollout: Any) -> str:
    """A pool with a canary in its rollout; the version that serves."""
    coloured_pool(stage, workers, rollout={"progressDeadline": "5s", "canary": CANARY} | rollout)
    (only,) = stage.wait(lambda: stage.pool().get("versions"), "the version in the status")
    return str(only["version"])


def wait_rolled_back(stage: Stage, good: str, workers: int) -> Body:
    def look() -> Body | None:
        status = stage.pool()
        assert status["rollout"]["phase"] == "RolledBack", status["rollout"]
        found = [(one["version"], one["replicas"]) for one in status["versions"]]
        assert found == [(good, workers)], found
        return condition(stage.kube.get("workerpools", "work"), "Progressing")

    return stage.wait(look, "the proven version alone again")


def test_a_canary_whose_tasks_fail_is_rolled_back_with_its_figures(stage: Stage) -> None:
    good = canary_pool(stage, 3)
    long_ones = stage.submit("environment", *(["COLOUR", LONG] for _ in range(2)), prefix="long")
    stage.wait_running(long_ones)
    # The new version fails every task of a handler that the old one runs well.
    stage.kube.patch("workerpools", "work", {"spec": {"env": [*colour("red"), {"name": "FAIL", "value": "1"}]}})
    stage.wait(lambda: rollout_phase(stage) == "Canary", "the canary")
    stage.wait(lambda: any(one["ready"] for one in stage.pool()["versions"][:1]), "the canary's worker ready")
    stage.submit("fails.if.told", *([number] for number in range(12)), prefix="probe")
    said = wait_rolled_back(stage, good, 3)
    assert said["reason"] == "RolledBack"
    assert "attempts failed on the new version; maxFailureRate is 0.2" in said["message"]
    assert any("attempts failed" in message for message in stage.events("RolledBack"))
    assert_untouched(stage.wait_ended(long_ones))
    stage.wait_ready(3)
    assert_nobody_was_cut_off(stage)


def test_a_canary_that_does_well_gets_all_workers(stage: Stage) -> None:
    canary_pool(stage, 3, canary=CANARY | {"duration": "1s", "minTasks": 1})
    paint(stage, "green")
    # Tasks that the old workers have done before it is ready would prove nothing.
    stage.wait(lambda: rollout_phase(stage) == "Canary" and stage.pool()["versions"][0]["ready"], "the canary ready")
    names = stage.submit("environment", *(["COLOUR", 0.2] for _ in range(20)))
    assert_untouched(stage.wait_ended(names))
    wait_complete(stage, 3)
    stage.wait(lambda: stage.events("CanaryPromoted"), "the Event of the promotion")


def test_a_canary_whose_image_does_not_start_is_rolled_back_and_old_workers_go_on(stage: Stage) -> None:
    good = canary_pool(stage, 2)
    stage.kube.patch(
        "workerpools", "work", {"spec": {"image": "localhost/no-such-image:1", "imagePullPolicy": "Never"}}
    )
    names = stage.submit("environment", *(["COLOUR", 0.5] for _ in range(10)))
    assert_untouched(stage.wait_ended(names))
    said = wait_rolled_back(stage, good, 2)
    assert "ErrImageNeverPull" in said["message"]


def test_without_a_canary_an_image_that_does_not_start_stalls_and_old_workers_go_on(stage: Stage) -> None:
    coloured_pool(stage, 2, rollout={"progressDeadline": "2s"})
    stage.kube.patch(
        "workerpools", "work", {"spec": {"image": "localhost/no-such-image:1", "imagePullPolicy": "Never"}}
    )
    stage.wait(lambda: rollout_phase(stage) == "Stalled", "the rollout stalled")
    names = stage.submit("environment", *(["COLOUR", 0.5] for _ in range(6)))
    assert_untouched(stage.wait_ended(names))
    said = condition(stage.kube.get("workerpools", "work"), "Progressing")
    assert said["reason"] == "Stalled"
    assert "ErrImageNeverPull" in said["message"]
    assert stage.pool()["readyReplicas"] == 2
    # The person puts the image right, and the rollout goes on from there.
    stage.kube.patch("workerpools", "work", {"spec": {"image": APP_IMAGE, "env": colour("green")}})
    wait_complete(stage, 2)


@pytest.mark.alone
def test_leader_killed_in_the_middle_of_a_rollout_interrupts_none(stage: Stage) -> None:
    coloured_pool(stage, 3)
    old = stage.submit("environment", *(["COLOUR", 2 * LONG] for _ in range(3)), prefix="old")
    stage.wait_running(old)
    paint(stage, "green")
    stage.wait(lambda: stage.pool()["workers"].get("draining"), "an old worker that only finishes what it runs")
    leader = read_leader(stage.kube)
    kill_process(stage.kube.within(NAMESPACE).get("pods", pod_of(leader)), "millpond_operator")
    tasks = stage.wait_ended(old)
    assert_untouched(tasks)
    wait_complete(stage, 3)
    assert_nobody_was_cut_off(stage)
