"""The tables of the state machines, and the fold of a log that arrives twice and out of order."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api.events import TaskEvent
from millpond_api.lifecycle import (
    TASK_TRANSITIONS,
    TERMINAL,
    WORKER_TRANSITIONS,
    TaskState,
    TaskView,
    Transition,
    WorkerState,
    fold,
    fold_all,
    task_may,
    worker_may,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def reachable(table: tuple[Transition, ...], starts: set[str]) -> set[str]:
    """Every state that some path of the table leads to."""
    found, grew = set(starts), True
    while grew:
        new = {t.target for t in table if t.source in found} - found
        found, grew = found | new, bool(new)
    return found


@pytest.mark.parametrize("step", TASK_TRANSITIONS, ids=lambda t: f"{t.source}-{t.target}")
def test_every_task_transition_can_be_taken_from_pending(step: Transition) -> None:
    assert step.source in reachable(TASK_TRANSITIONS, {TaskState.PENDING})
    assert task_may(step.source, step.target)


@pytest.mark.parametrize("step", WORKER_TRANSITIONS, ids=lambda t: f"{t.source}-{t.target}")
def test_every_worker_transition_can_be_taken_from_starting(step: Transition) -> None:
    assert step.source in reachable(WORKER_TRANSITIONS, {WorkerState.STARTING})
    assert worker_may(step.source, step.target)


def test_every_state_is_reachable() -> None:
    assert reachable(TASK_TRANSITIONS, {TaskState.PENDING}) == set(TaskState)
    assert reachable(WORKER_TRANSITIONS, {WorkerState.STARTING}) == set(WorkerState)


@pytest.mark.parametrize("table", [TASK_TRANSITIONS, WORKER_TRANSITIONS], ids=["task", "worker"])
def test_no_transition_stands_twice_and_each_has_a_reason(table: tuple[Transition, ...]) -> None:
    assert len({(t.source, t.target) for t in table}) == len(table)
    assert all(t.why for t in table)


def test_terminal_states_are_final_but_for_redrive() -> None:
    leaving = {(t.source, t.target) for t in TASK_TRANSITIONS if t.source in TERMINAL}
    assert leaving == {(TaskState.FAILED, TaskState.QUEUED)}


def test_every_unfinished_task_can_be_cancelled_and_expired() -> None:
    for state in set(TaskState) - TERMINAL:
        assert task_may(state, TaskState.CANCELLED)
        assert task_may(state, TaskState.EXPIRED)


events = st.builds(
    TaskEvent,
    state=st.sampled_from(list(TaskState)),
    attempt=st.integers(1, 4),
    at=st.integers(0, 10_000).map(lambda seconds: START + timedelta(seconds=seconds)),
    worker=st.sampled_from(["", "w1", "w2"]),
)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[TaskEvent], list[TaskEvent]]:
    """A log in order of its sequences, and the same log as it may arrive: shuffled, with repetitions."""
    log = [
        event.model_copy(update={"sequence": number * 3 + 1})
        for number, event in enumerate(draw(st.lists(events, max_size=12)))
    ]
    repeated = draw(st.lists(st.sampled_from(log), max_size=8)) if log else []
    return log, draw(st.permutations(log + repeated))


@given(arrivals())
def test_duplicates_and_disorder_fold_to_the_same_view(arrival: tuple[list[TaskEvent], list[TaskEvent]]) -> None:
    log, arrived = arrival
    view = TaskView()
    for event in arrived:
        view = fold(view, event)
    assert view == TaskView(tuple(log)) == fold_all(arrived)


@given(arrivals())
def test_folding_an_event_again_is_the_same_view(arrival: tuple[list[TaskEvent], list[TaskEvent]]) -> None:
    log, arrived = arrival
    view = fold_all(log)
    for event in arrived:
        assert fold(view, event) is view


def log_of(*steps: tuple[TaskState, int]) -> TaskView:
    """The view of a log with these states and attempts."""
    return fold_all(
        TaskEvent(state=state, attempt=attempt, at=START, sequence=number)
        for number, (state, attempt) in enumerate(steps, 1)
    )


T = TaskState
RUNNING_1 = (T.RUNNING, 1)


@pytest.mark.parametrize(
    ("view", "state", "attempts"),
    [
        (log_of(), T.QUEUED, 0),
        (log_of(RUNNING_1), T.RUNNING, 1),
        (log_of(RUNNING_1, (T.SUCCEEDED, 1)), T.SUCCEEDED, 1),
        (log_of(RUNNING_1, (T.QUEUED, 1)), T.QUEUED, 0),
        (log_of(RUNNING_1, (T.QUEUED, 1), RUNNING_1, (T.SUCCEEDED, 1)), T.SUCCEEDED, 1),
        (log_of(RUNNING_1, (T.BACKOFF, 1), (T.RUNNING, 2), (T.FAILED, 2)), T.FAILED, 2),
        (log_of((T.CANCELLED, 1)), T.CANCELLED, 0),
        (log_of(RUNNING_1, (T.CANCELLED, 1)), T.CANCELLED, 1),
        (log_of((T.SCHEDULED, 1)), T.SCHEDULED, 0),
    ],
    ids=[
        "fresh",
        "running",
        "done",
        "released",
        "released-then-done",
        "two-attempts",
        "early-cancel",
        "cancel",
        "later",
    ],
)
def test_view_tells_state_and_attempts_without_refunded_ones(view: TaskView, state: TaskState, attempts: int) -> None:
    assert (view.state, view.attempts) == (state, attempts)
    assert view.terminal == (state in TERMINAL)
