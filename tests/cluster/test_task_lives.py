"""The lives of Task objects: every way to wait, run and end, told by status and conditions."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.eventually import eventually_sync
from tests.support.kube import Body, condition
from tests.support.works import LONG, Works, moment, stale


def test_a_task_runs_and_its_status_tells_the_story(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    works.make_task(f"{pool}-a", pool, "echo", ["hello"])
    status = works.reaches(f"{pool}-a", "Succeeded")
    assert status["result"] == "hello"
    assert status["attempts"] == 1
    assert status["worker"] == "w1"
    assert [step["phase"] for step in status["transitions"]] == ["Queued", "Running", "Succeeded"]
    assert stale([works.task(f"{pool}-a")]) == []


def test_kubectl_wait_returns_when_the_task_is_complete(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    works.make_task(f"{pool}-a", pool)
    said = works.kube.kubectl("wait", "--for=condition=Complete", f"task/{pool}-a", f"--timeout={LONG:.0f}s")
    assert "condition met" in said


def test_an_unknown_pool_keeps_the_task_pending_until_it_appears(works: Works, pool: str) -> None:
    works.make_task(f"{pool}-a", pool)
    status = works.reaches(f"{pool}-a", "Pending", reason="PoolNotFound")
    assert pool in status["message"]
    assert "submitted when it is created" in status["message"]
    works.make_pool(pool)
    works.start_worker(pool)
    works.reaches(f"{pool}-a", "Succeeded")


def test_a_full_queue_keeps_tasks_pending_and_admits_the_oldest_first(works: Works, pool: str) -> None:
    works.make_pool(pool, queue={"maxDepth": 2})
    works.pool_is_ready(pool)
    # By name the last comes first, so that nothing but their age can order them.
    names = [f"{pool}-{number}" for number in reversed(range(6))]
    for name in names:
        works.make_task(name, pool)
    wanted = ["Pending"] * 4 + ["Queued"] * 2
    eventually_sync(lambda: phases(works, pool) == wanted, LONG, "two in, four out")
    waiting = [task["status"] for task in works.tasks_of(pool) if task["status"]["phase"] == "Pending"]
    assert {status["reason"] for status in waiting} == {"QueueFull"}
    assert "queue.maxDepth" in waiting[0]["message"]
    works.start_worker(pool)
    ended = works.all_reach("Succeeded", pool, 6)
    assert stale(ended) == []
    assert [task["metadata"]["name"] for task in sorted(ended, key=started)] == names


def started(task: Body) -> str:
    return str(task["status"]["startedAt"])


def phases(works: Works, pool: str) -> list[str]:
    return sorted((task.get("status") or {}).get("phase", "") for task in works.tasks_of(pool))


def test_a_suspended_task_is_not_submitted_until_it_is_resumed(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    works.make_task(f"{pool}-a", pool, suspend=True)
    works.reaches(f"{pool}-a", "Pending", reason="Suspended")
    # One that was made after it has run, so it was not merely slow.
    works.make_task(f"{pool}-b", pool)
    works.reaches(f"{pool}-b", "Succeeded")
    assert works.status(f"{pool}-a")["phase"] == "Pending"
    works.kube.patch("tasks", f"{pool}-a", {"spec": {"suspend": False}})
    works.reaches(f"{pool}-a", "Succeeded")


def test_a_task_with_a_start_time_is_scheduled_and_runs_not_before_it(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    works.pool_is_ready(pool)
    due = moment(8)
    works.make_task(f"{pool}-a", pool, notBefore=due)
    works.make_task(f"{pool}-later", pool, notBefore=moment(3600))
    works.reaches(f"{pool}-later", "Scheduled")
    status = works.reaches(f"{pool}-a", "Succeeded")
    assert status["startedAt"] >= due
    assert works.status(f"{pool}-later")["phase"] == "Scheduled"


def test_a_start_time_that_was_taken_back_by_cancel_never_runs(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.pool_is_ready(pool)
    gate = works.gate("gate")
    due = moment(8)
    works.make_task(f"{pool}-a", pool, "gate", [gate.path], notBefore=due)
    # Queued: where all of this took longer than its time was away.
    works.reaches(f"{pool}-a", "Scheduled", "Queued")
    works.kube.patch("tasks", f"{pool}-a", {"spec": {"cancel": True}})
    works.reaches(f"{pool}-a", "Cancelled")
    works.start_worker(pool)
    eventually_sync(lambda: moment(0) > due, what="its time")
    works.make_task(f"{pool}-b", pool)
    works.reaches(f"{pool}-b", "Succeeded")
    assert gate.runs() == []


def test_a_deadline_that_has_passed_before_the_start_expires_the_task(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.make_task(f"{pool}-a", pool, deadline=moment(-1))
    status = works.reaches(f"{pool}-a", "Expired")
    assert status["attempts"] == 0
    assert stale([works.task(f"{pool}-a")]) == []


def test_a_deadline_that_passes_in_the_queue_expires_the_task(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.pool_is_ready(pool)
    gate = works.gate("gate")
    deadline = moment(5)
    works.make_task(f"{pool}-a", pool, "gate", [gate.path], deadline=deadline)
    # Expired: where its submission took longer than that.
    works.reaches(f"{pool}-a", "Queued", "Expired")
    eventually_sync(lambda: moment(0) > deadline, what="the deadline")
    works.start_worker(pool)
    works.reaches(f"{pool}-a", "Expired")
    assert gate.runs() == []


def test_a_deadline_that_passes_while_it_runs_expires_the_task(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    works.make_task(f"{pool}-first", pool)
    # The worker is up: what comes next starts at once.
    works.reaches(f"{pool}-first", "Succeeded")
    gate = works.gate("gate")
    for seconds in (8, 30, 90):
        task = f"{pool}-{seconds}"
        works.make_task(task, pool, "gate", [gate.path], deadline=moment(seconds))
        status = works.reaches(task, "Expired")
        if gate.runs():
            break
        # Its start took longer than that: again, with more time.
    assert status["attempts"] == 1


def test_a_cancelled_task_in_the_queue_never_runs(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.pool_is_ready(pool)
    gate = works.gate("gate")
    works.make_task(f"{pool}-a", pool, "gate", [gate.path])
    works.reaches(f"{pool}-a", "Queued")
    works.kube.patch("tasks", f"{pool}-a", {"spec": {"cancel": True}})
    status = works.reaches(f"{pool}-a", "Cancelled")
    assert status["attempts"] == 0
    works.start_worker(pool)
    works.make_task(f"{pool}-b", pool)
    works.reaches(f"{pool}-b", "Succeeded")
    assert gate.runs() == []
    assert stale(works.tasks_of(pool)) == []


def test_cancelling_a_running_task_stops_it_and_frees_its_slot(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    gate = works.gate("gate")
    works.make_task(f"{pool}-a", pool, "gate", [gate.path])
    gate.entered_sync()
    works.kube.patch("tasks", f"{pool}-a", {"spec": {"cancel": True}})
    works.reaches(f"{pool}-a", "Cancelled")
    # The one slot is free again, although the gate never opened.
    works.make_task(f"{pool}-b", pool)
    works.reaches(f"{pool}-b", "Succeeded")
    assert works.status(f"{pool}-a")["phase"] == "Cancelled"


def test_a_task_that_fails_for_good_tells_error_and_attempts(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    retry = {"maxAttempts": 2, "backoff": {"initial": "100ms", "jitter": 0}}
    works.make_task(f"{pool}-a", pool, "flaky", [99], retry=retry)
    status = works.reaches(f"{pool}-a", "Failed")
    assert status["attempts"] == 2
    assert status["error"]["type"].endswith("RuntimeError")
    assert status["error"]["message"] == "attempt 2 fails"
    assert "flaky" in status["error"]["traceback"]
    failed = condition(works.task(f"{pool}-a"), "Failed")
    assert failed["status"] == "True"
    assert "attempt 2 fails" in failed["message"]
    assert [step["phase"] for step in status["transitions"]].count("Backoff") == 1
    assert stale([works.task(f"{pool}-a")]) == []


def test_a_task_that_succeeds_at_its_second_attempt_shows_no_error(works: Works, pool: str) -> None:
    works.make_pool(pool, retry={"maxAttempts": 3, "backoff": {"initial": "100ms"}})
    works.start_worker(pool)
    works.make_task(f"{pool}-a", pool, "flaky", [2], retry={"backoff": {"initial": "100ms"}})
    status = works.reaches(f"{pool}-a", "Succeeded")
    assert status["attempts"] == 2
    assert status["result"] == 2
    assert "error" not in status


def test_a_missing_handler_is_explained_and_the_task_runs_when_a_worker_has_it(works: Works, pool: str) -> None:
    works.make_pool(pool)
    lean = works.start_worker(pool, "lean", app="tests.support.worker_app:lean")
    works.make_task(f"{pool}-a", pool, "double", kwargs={"value": 21})
    status = works.reaches(f"{pool}-a", "Queued", reason="HandlerMissing")
    assert "double" in status["message"]
    assert condition(works.task(f"{pool}-a"), "Accepted")["reason"] == "HandlerMissing"
    lean.stop()
    works.start_worker(pool, "full")
    assert works.reaches(f"{pool}-a", "Succeeded")["result"] == 42
    assert stale(works.tasks_of(pool)) == []


def test_the_time_to_live_deletes_an_ended_task(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    works.make_task(f"{pool}-a", pool, ttlAfterFinished="1s")
    works.make_task(f"{pool}-kept", pool)
    eventually_sync(lambda: works.kube.find("tasks", f"{pool}-a") is None, LONG, "the end of its time to live", 0.1)
    works.reaches(f"{pool}-kept", "Succeeded")


def test_deleting_a_running_task_cancels_it(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    gate = works.gate("gate")
    works.make_task(f"{pool}-a", pool, "gate", [gate.path])
    gate.entered_sync()
    works.kube.delete("tasks", f"{pool}-a")
    assert works.kube.find("tasks", f"{pool}-a") is None, "no finalizer may hold it"
    works.make_task(f"{pool}-b", pool)
    works.reaches(f"{pool}-b", "Succeeded")


def test_deleting_a_queued_task_takes_it_out_of_the_queue(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.pool_is_ready(pool)
    gate = works.gate("gate")
    works.make_task(f"{pool}-a", pool, "gate", [gate.path])
    works.reaches(f"{pool}-a", "Queued")
    works.kube.delete("tasks", f"{pool}-a")
    works.make_task(f"{pool}-b", pool)
    works.reaches(f"{pool}-b", "Queued")
    works.start_worker(pool)
    works.reaches(f"{pool}-b", "Succeeded")
    assert gate.runs() == []


def test_a_task_made_again_under_its_name_starts_anew(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    works.make_task(f"{pool}-a", pool, "echo", ["first"])
    assert works.reaches(f"{pool}-a", "Succeeded")["result"] == "first"
    works.kube.delete("tasks", f"{pool}-a")
    works.make_task(f"{pool}-a", pool, "echo", ["second"])
    assert works.reaches(f"{pool}-a", "Succeeded")["result"] == "second"


@pytest.fixture(scope="module")
def echo_pool(shared_works: Works) -> Iterator[str]:
    """A pool with a worker for all results."""
    shared_works.make_pool("echo")
    worker = shared_works.start_worker("echo")
    yield "echo"
    shared_works.stop_all([worker])


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": None, "b": [None, {"c": None}]}, id="nulls within"),
        pytest.param([], id="empty list"),
        pytest.param(0, id="zero"),
        pytest.param("", id="empty text"),
        pytest.param(False, id="false"),
        pytest.param({"größe": "μ", "deep": [[[1.5]]]}, id="letters and floats"),
    ],
)
def test_a_result_arrives_as_the_handler_returned_it(works: Works, echo_pool: str, value: Any, namespace: str) -> None:
    works.make_task(f"r-{namespace}", echo_pool, "echo", [value])
    assert works.reaches(f"r-{namespace}", "Succeeded").get("result", "absent") == value


def test_a_result_too_large_for_a_status_is_left_out_and_said_so(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.start_worker(pool)
    works.make_task(f"{pool}-a", pool, "huge", [70_000])
    status = works.reaches(f"{pool}-a", "Succeeded")
    assert "result" not in status
    assert "read it with the SDK" in status["message"]


def test_an_unknown_class_is_explained(works: Works, pool: str) -> None:
    works.make_pool(pool)
    works.make_task(f"{pool}-a", pool, **{"class": "urgent"})
    assert "urgent" in works.reaches(f"{pool}-a", "Pending", reason="ClassNotFound")["message"]
