"""A task's status is what its log says, however often and in whatever pieces the log was read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api.events import INLINE_RESULT, Parcel, TaskError, TaskEvent
from millpond_api.lifecycle import TASK_TRANSITIONS, TERMINAL, TaskView, fold_all
from millpond_api.v1alpha1 import TaskStatus
from millpond_operator.decisions.projection import is_news, project

START = datetime(2030, 1, 1, tzinfo=UTC)
NOW = START + timedelta(hours=1)
BEFORE = TaskStatus(phase="Queued", task_id="u", queued_at=START)


def event(sequence: int, state: str, attempt: int = 1, **fields: Any) -> TaskEvent:
    worker = fields.pop("worker", "w1" if state != "Queued" else "")
    return TaskEvent(
        state=state, attempt=attempt, at=START + timedelta(seconds=sequence), worker=worker, sequence=sequence, **fields
    )


def status_of(*events: TaskEvent) -> TaskStatus:
    return project(BEFORE, fold_all(events), NOW, 1)


def conditions(status: TaskStatus) -> dict[str, str]:
    return {one.type: one.status for one in status.conditions}


BOOM = TaskError(type="ValueError", message="boom", traceback="Traceback …")


def test_an_empty_log_leaves_the_status_as_it_is() -> None:
    assert project(BEFORE, TaskView(), NOW, 1) is BEFORE


def test_success_tells_result_duration_and_every_step() -> None:
    status = status_of(event(5, "Running"), event(7, "Succeeded", result={"a": None}))
    assert (status.phase, status.attempts, status.worker, status.duration) == ("Succeeded", 1, "w1", "2s")
    assert status.result == {"a": None}
    assert (status.transitions[0].phase, status.transitions[0].reason) == ("Queued", "Submitted")
    assert [step.phase for step in status.transitions] == ["Queued", "Running", "Succeeded"]
    assert conditions(status) == {"Accepted": "True", "Complete": "True", "Failed": "False"}
    assert status.observed_sequence == 7


def test_a_task_for_later_begins_with_scheduled() -> None:
    status = status_of(event(5, "Scheduled", worker="", next_at=NOW), event(7, "Running"))
    assert [step.phase for step in status.transitions] == ["Scheduled", "Running"]


def test_a_task_that_was_never_sent_is_not_called_accepted() -> None:
    yielded = status_of(event(5, "Cancelled", worker="", reason="Yielded", message="task other has the unique key"))
    refused = status_of(event(5, "Failed", worker="", reason="ArgumentsRefused", message="missing 'path'"))
    for status in (yielded, refused):
        assert conditions(status) == {"Accepted": "False", "Complete": "False", "Failed": "True"}
        assert status.attempts == 0
    assert yielded.message == "task other has the unique key"


def test_the_last_error_shows_while_the_next_attempt_waits_and_runs_and_goes_with_success() -> None:
    log = [event(1, "Running"), event(2, "Backoff", error=BOOM, next_at=NOW)]
    waiting = status_of(*log)
    assert waiting.error is not None
    assert (waiting.error.message, waiting.next_attempt_at) == ("boom", NOW)
    running = status_of(*log, event(3, "Running", 2))
    assert running.error is not None
    assert running.next_attempt_at is None
    assert status_of(*log, event(3, "Running", 2), event(4, "Succeeded", 2)).error is None


def test_a_failure_tells_why_in_condition_and_error() -> None:
    status = status_of(event(1, "Running", 2), event(2, "Failed", 2, error=BOOM))
    assert (status.phase, status.reason, status.attempts) == ("Failed", "ValueError", 2)
    assert conditions(status) == {"Accepted": "True", "Complete": "False", "Failed": "True"}
    (failed,) = [one for one in status.conditions if one.type == "Failed"]
    assert failed.message == "ValueError: boom"


@pytest.mark.parametrize("state", ["Cancelled", "Expired"])
def test_what_ended_without_running_counts_no_attempt(state: str) -> None:
    status = status_of(event(3, state, worker="", reason="Cancelled", message="spec.cancel was set"))
    assert (status.attempts, status.worker, status.started_at) == (0, "", None)
    assert conditions(status)["Failed"] == "True"


def test_a_released_task_is_queued_again_and_its_attempt_is_refunded() -> None:
    status = status_of(event(1, "Running"), event(2, "Queued", worker="w1", reason="Released"))
    assert (status.phase, status.attempts, status.finished_at) == ("Queued", 0, None)


def test_a_large_result_is_left_out_with_a_sentence() -> None:
    status = status_of(event(1, "Running"), event(2, "Succeeded", result="x" * INLINE_RESULT))
    assert status.result is None
    assert "handle.result()" in status.message
    assert status.stored_result is not None
    assert (status.stored_result.size, status.stored_result.where) == (INLINE_RESULT + 2, "Event")


def test_a_stored_result_is_shown_with_its_size_its_place_and_its_end() -> None:
    expires = datetime(2026, 5, 2, tzinfo=UTC)
    parcel = Parcel(codec="cbor", size=3_000_000, object="t.abc", stored=2_000_000, expires=expires)
    status = status_of(event(1, "Running"), event(2, "Succeeded", parcel=parcel))
    assert status.message == (
        "the result (3000000 bytes of cbor) is in the object store until 2026-05-02T00:00:00Z: read it with the SDK "
        "(handle.result())"
    )
    assert status.stored_result is not None
    assert (status.stored_result.where, status.stored_result.expires_at) == ("ObjectStore", expires)


def test_a_huge_traceback_is_cut_to_its_end() -> None:
    error = TaskError(type="E", message="m", traceback="a" * 20_000 + "the end")
    status = status_of(event(1, "Running"), event(2, "Failed", error=error))
    assert status.error is not None
    assert len(status.error.traceback) == 4096
    assert status.error.traceback.endswith("the end")


@pytest.mark.parametrize(
    ("last", "news"),
    [
        pytest.param(event(7, "Succeeded"), True, id="the next event"),
        pytest.param(event(5, "Running"), True, id="the same event again"),
        pytest.param(event(4, "Backoff"), False, id="an older event"),
        pytest.param(
            event(99, "Running").model_copy(update={"sequence": 1}), True, id="NATS lost its data: counted anew"
        ),
    ],
)
def test_an_event_is_news_by_its_sequence_or_when_nats_counts_anew_by_its_time(last: TaskEvent, news: bool) -> None:
    assert is_news(status_of(event(5, "Running")), last) is news


# ---- for every log

STEPS: dict[str, list[str]] = {}
for _step in TASK_TRANSITIONS:
    STEPS.setdefault(str(_step.source), []).append(str(_step.target))


@st.composite
def logs(draw: st.DrawFn) -> list[TaskEvent]:
    """A log that the table allows, from Queued."""
    state, attempt, events = "Queued", 1, []
    for number in range(draw(st.integers(1, 8))):
        if state not in STEPS:
            break
        target = draw(st.sampled_from(STEPS[state]))
        attempt += target == "Running" and state == "Backoff"
        error = BOOM if target in ("Backoff", "Failed") else None
        result = draw(st.sampled_from([None, 1, {"a": [None]}])) if target == "Succeeded" else None
        sequence = events[-1].sequence + draw(st.integers(1, 5)) if events else number + 1
        events.append(event(sequence, target, attempt, error=error, result=result))
        state = target
    return events


@given(logs(), st.data())
def test_a_replay_in_any_order_with_repetitions_gives_the_same_status(
    log: list[TaskEvent], data: st.DataObject
) -> None:
    whole = project(BEFORE, fold_all(log), NOW, 1)
    shuffled = data.draw(st.permutations(log)) + data.draw(st.lists(st.sampled_from(log), max_size=5))
    assert project(BEFORE, fold_all(shuffled), NOW, 1) == whole
    assert project(whole, fold_all(log), NOW, 1) == whole


@given(logs(), st.integers(0, 8))
def test_the_status_of_a_prefix_and_then_the_rest_is_the_status_of_the_whole(log: list[TaskEvent], cut: int) -> None:
    halfway = project(BEFORE, fold_all(log[:cut]), NOW, 1)
    whole, direct = project(halfway, fold_all(log), NOW, 1), project(BEFORE, fold_all(log), NOW, 1)
    assert whole.to_manifest() == direct.to_manifest()


@given(logs())
def test_phase_conditions_and_end_time_never_contradict_each_other(log: list[TaskEvent]) -> None:
    status = project(BEFORE, fold_all(log), NOW, 1)
    told = conditions(status)
    assert told["Complete"] == str(status.phase == "Succeeded")
    assert told["Failed"] == str(status.phase in TERMINAL and status.phase != "Succeeded")
    assert (status.finished_at is not None) == (status.phase in TERMINAL)
    assert status.transitions[-1].phase == status.phase
    assert status.attempts >= 0
