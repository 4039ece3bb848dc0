"""Workers that end in the middle of a task: the task runs again elsewhere, and the objects tell the story."""

import pytest

from tests.support.faults import delete_by_force, kill_process
from tests.support.kube import Body
from tests.support.stage import Stage, phase, status_of, steps_of

SECONDS = 6
"""A task that is long enough to be found and killed, short enough to be run twice."""


def _kill(stage: Stage, pod: Body) -> None:
    kill_process(pod, "millpond.worker")


def _delete(stage: Stage, pod: Body) -> None:
    delete_by_force(stage.kube, pod["metadata"]["name"])


@pytest.mark.parametrize(
    ("fault", "reason"), [(_kill, "Killed"), (_delete, "PodGone")], ids=["kill -9", "delete --force"]
)
def test_sigkill_of_a_worker_runs_its_task_again(stage: Stage, fault: object, reason: str) -> None:
    assert callable(fault)
    stage.make_pool(scaling={"minWorkers": 2})
    stage.wait_ready(2)
    (name,) = stage.submit("sleep", [SECONDS, 7])
    victim = stage.wait_running([name])[name]
    fault(stage, stage.kube.get("pods", victim))

    task = stage.wait_ended([name])[name]
    assert phase(task) == "Succeeded"
    assert task["result"] == 7
    assert task["attempts"] == 1, "a lost worker costs no attempt"
    if fault is _delete:
        # A killed process is started again in its pod and may well be the one that gets the task back.
        assert task["worker"] != victim
    runs = [step["worker"] for step in task["transitions"] if step["phase"] == "Running"]
    assert runs == [victim, task["worker"]]
    assert steps_of(task) == ["Queued", "Running", "Running", "Succeeded"]

    def failed() -> Body | None:
        steps = stage.workers()[victim].get("transitions", [])
        return next((step for step in steps if step["state"] == "Failed"), None)

    assert stage.wait(failed, f"{victim} shown as Failed")["reason"] == reason
    assert any(victim in text and reason in text for text in stage.events("WorkerFailed"))


def test_oomkilled_once_costs_no_attempt_and_the_task_completes(stage: Stage) -> None:
    stage.make_pool(scaling={"minWorkers": 2, "maxWorkers": 2})
    stage.wait_ready(2)
    (name,) = stage.submit("oom.once", ["work"])
    task = stage.wait_ended([name])[name]
    assert phase(task) == "Succeeded"
    assert task["result"] == 2
    assert task["attempts"] == 1
    assert steps_of(task) == ["Queued", "Running", "Running", "Succeeded"]
    _assert_end_is_told(stage, task["transitions"][1]["worker"], "OOMKilled", 137)
    assert any("OOMKilled" in text and "memory" in text for text in stage.events("WorkerFailed"))


@pytest.mark.parametrize(("handler", "reason", "code"), [("oom", "OOMKilled", 137), ("crash", "Error", 3)])
def test_a_task_that_kills_every_worker_is_quarantined_as_poison(
    stage: Stage, handler: str, reason: str, code: int
) -> None:
    stage.make_pool(scaling={"minWorkers": 2, "maxWorkers": 2}, retry={"maxLostWorkers": 2})
    stage.wait_ready(2)
    (name,) = stage.submit(handler, [])
    task = stage.wait_ended([name])[name]
    assert phase(task) == "Failed"
    assert task["reason"].lower() == "poison", task
    assert steps_of(task) == ["Queued", "Running", "Running", "Failed"]
    for step in task["transitions"]:
        if step["phase"] == "Running":
            _assert_end_is_told(stage, step["worker"], reason, code)
    # The pool itself goes on.
    (good,) = stage.submit("echo", ["still here"])
    assert stage.wait_ended([good])[good]["result"] == "still here"


def _assert_end_is_told(stage: Stage, worker: str, reason: str, code: int) -> None:
    """The Worker says how its container ended: in its steps and, once the container started again, in its reason."""

    def told() -> bool:
        status = status_of(stage.kube.get("workers", worker))
        failed = [step for step in status.get("transitions", []) if step["state"] == "Failed"]
        assert reason in [step["reason"] for step in failed], status
        assert reason in status["reason"], status
        assert status["exitCode"] == code, status
        return True

    stage.wait(told, f"{worker} shown as {reason}")
