"""The worker's decisions: what a delivery means given the log, and what an ended attempt becomes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond.errors import Cancel, NonRetryable, Retry, Snooze
from millpond.outcomes import (
    MAX_TRACEBACK,
    Again,
    Claim,
    Commit,
    Ended,
    Finish,
    Lost,
    Origin,
    Stands,
    choose_policy,
    decide_claim,
    decide_commit,
    decide_first_claim,
    decide_outcome,
    is_snooze_of,
    lost_attempts,
    make_ended,
    make_error,
    make_event,
)
from millpond_api.envelope import Envelope, MalformedTask
from millpond_api.events import TaskError, TaskEvent
from millpond_api.lifecycle import TERMINAL, TaskState, TaskView, fold_all, task_may
from millpond_api.retry import RetryPolicy

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=3, initial=2.0, factor=2.0, maximum=60.0, jitter=0.0)


def origin(attempt: int = 1, deadline: datetime | None = None, snoozes: int = 0, spent: int = 0) -> Origin:
    envelope = Envelope(id="t", handler="h", attempt=attempt, enqueued=NOW, deadline=deadline)
    return Origin(envelope.model_copy(update={"snoozes": snoozes, "spent": spent}), "w1")


def log(*story: str) -> TaskView:
    """A log from `State(attempt)` texts, sequences 10, 20, …; `State(1zz)` is of attempt 1 after two snoozes."""
    events = []
    for number, entry in enumerate(story, start=1):
        state, _, rank = entry.rstrip(")").partition("(")
        attempt, snoozes = int(rank.rstrip("z")), rank.count("z")
        events.append(
            TaskEvent(state=state, attempt=attempt, snoozes=snoozes, at=NOW, worker="w0", sequence=10 * number)
        )
    return fold_all(events)


@pytest.mark.parametrize(
    ("story", "attempt", "decision"),
    [
        pytest.param([], 1, Claim(0), id="empty log: claim"),
        pytest.param(["Scheduled(1)"], 1, Claim(10), id="its time has come: claim"),
        pytest.param(["Running(1)"], 1, Claim(10), id="lease ran out: claim over it"),
        pytest.param(["Running(1)", "Queued(1)"], 1, Claim(20), id="released: claim"),
        pytest.param(["Running(1)", "Backoff(1)"], 2, Claim(20), id="next attempt: claim"),
        pytest.param(["Running(1)", "Failed(1)", "Queued(2)"], 2, Claim(30), id="redriven: claim"),
        pytest.param(["Running(1)", "Succeeded(1)"], 1, "Succeeded", id="ended: finish"),
        pytest.param(["Cancelled(1)"], 1, "Cancelled", id="cancelled in the queue: finish"),
        pytest.param(["Running(1)", "Failed(1)"], 1, "Failed", id="failed: complete its dead letter"),
        pytest.param(["Running(1)", "Backoff(1)"], 1, "Backoff", id="backed off: complete its schedule"),
        pytest.param(["Running(1)", "Backoff(1)", "Running(2)"], 1, "Running", id="later attempt runs: drop the old"),
        pytest.param(["Running(1)", "Failed(1)", "Queued(2)"], 1, "Queued", id="redriven: drop the old message"),
    ],
)
def test_what_a_delivery_means(story: list[str], attempt: int, decision: Claim | str) -> None:
    decided = decide_claim(log(*story), origin(attempt), poison_limit=3, now=NOW)
    if isinstance(decision, Claim):
        assert decided == decision
    else:
        assert isinstance(decided, Finish)
        assert decided.event.state == decision


@pytest.mark.parametrize(
    ("story", "lost"),
    [
        (["Running(1)"], 1),
        (["Running(1)", "Running(1)", "Running(1)"], 3),
        (["Running(1)", "Queued(1)", "Running(1)", "Queued(1)", "Running(1)"], 1),
        (["Running(1)", "Backoff(1)", "Running(2)"], 1),
    ],
)
def test_releases_are_refunded_and_lost_workers_are_not(story: list[str], lost: int) -> None:
    view = log(*story)
    assert view.last is not None
    assert lost_attempts(view, view.last.attempt) == lost


def test_poison_ends_at_the_limit_and_not_before() -> None:
    assert decide_claim(log("Running(1)", "Running(1)"), origin(), 3, NOW) == Claim(20)
    decided = decide_claim(log(*["Running(1)"] * 3), origin(), 3, NOW)
    assert isinstance(decided, Commit)
    assert (decided.expected, decided.event.state, decided.event.reason) == (30, "Failed", "Poison")


@pytest.mark.parametrize("story", [[], ["Queued(1)"], ["Running(1)"]])
def test_a_deadline_that_is_over_expires_it_unrun(story: list[str]) -> None:
    decided = decide_claim(log(*story), origin(deadline=NOW), 3, NOW)
    assert isinstance(decided, Commit)
    assert (decided.expected, decided.event.state) == (10 * len(story), "Expired")
    assert isinstance(decide_first_claim(origin(deadline=NOW), NOW), Commit)
    assert decide_first_claim(origin(deadline=NOW + timedelta(seconds=1)), NOW) == Claim(0)


def test_a_deadline_without_a_time_zone_is_utc() -> None:
    assert isinstance(decide_first_claim(origin(deadline=NOW.replace(tzinfo=None)), NOW), Commit)


def test_an_outcome_beats_a_deadline_that_passed_later() -> None:
    assert isinstance(decide_claim(log("Running(1)", "Succeeded(1)"), origin(deadline=NOW), 3, NOW), Finish)


@pytest.mark.parametrize(
    ("error", "attempt", "state", "reason"),
    [
        (RuntimeError("x"), 1, "Backoff", "RuntimeError"),
        (RuntimeError("x"), 3, "Failed", "AttemptsExhausted"),
        (NonRetryable("x"), 1, "Failed", "NotRetryable"),
        (MalformedTask("x"), 1, "Failed", "NotRetryable"),
        (Retry("x", after=7), 1, "Backoff", "Retry"),
        (Retry("x", after=7), 3, "Failed", "AttemptsExhausted"),
        (SystemExit(1), 1, "Backoff", "SystemExit"),
    ],
)
def test_what_an_error_becomes(error: BaseException, attempt: int, state: str, reason: str) -> None:
    event = decide_outcome(make_ended(error), origin(attempt), POLICY, 0.0, NOW)
    assert (event.state, event.reason, event.attempt, event.worker, event.handler) == (
        state,
        reason,
        attempt,
        "w1",
        "h",
    )
    assert event.error is not None


def test_a_snooze_refunds_the_attempt_and_its_message_is_the_later_one() -> None:
    event = decide_outcome(make_ended(Snooze(30, "the shop is closed")), origin(2, snoozes=1), POLICY, 0.0, NOW)
    assert (event.state, event.attempt, event.snoozes, event.reason) == ("Scheduled", 2, 2, "Snoozed")
    assert (event.message, event.next_at) == ("the shop is closed", NOW + timedelta(seconds=30))
    view = log("Backoff(1)", "Running(2z)", "Scheduled(2zz)")
    assert lost_attempts(view, 2) == 0
    assert view.attempts == 1
    before, after = origin(2, snoozes=1), origin(2, snoozes=2)
    assert view.last is not None
    assert decide_claim(view, before, 3, NOW) == Finish(view.last)
    assert is_snooze_of(view.last, before.envelope)
    assert decide_claim(view, after, 3, NOW) == Claim(30)
    assert not is_snooze_of(view.last, after.envelope)


def test_a_message_from_before_a_snooze_never_runs_over_the_one_after_it() -> None:
    view = log("Running(1)", "Scheduled(1z)", "Running(1z)")
    decided = decide_claim(view, origin(1), 1, NOW)
    assert view.last is not None
    assert decided == Finish(view.last)


def test_a_handler_that_cancels_its_task_ends_it_with_its_reason() -> None:
    event = decide_outcome(make_ended(Cancel("the order was withdrawn")), origin(), POLICY, 0.0, NOW)
    assert (event.state, event.reason, event.message, event.error) == (
        "Cancelled",
        "Cancelled",
        "the order was withdrawn",
        None,
    )


@pytest.mark.parametrize(
    ("policy", "error", "state"),
    [
        (RetryPolicy(give_up_on=(KeyError,)), KeyError("k"), "Failed"),
        (RetryPolicy(give_up_on=(LookupError,)), KeyError("k"), "Failed"),
        (RetryPolicy(give_up_on=(KeyError,)), ValueError("v"), "Backoff"),
        (RetryPolicy(retry_on=(OSError,)), ConnectionError("c"), "Backoff"),
        (RetryPolicy(retry_on=(OSError,)), ValueError("v"), "Failed"),
        (RetryPolicy(retry_on=(OSError,)), Retry("the handler knows better", after=1), "Backoff"),
        (RetryPolicy(retry_on=(OSError,), give_up_on=(ConnectionError,)), ConnectionError("c"), "Failed"),
    ],
)
def test_the_kind_of_error_decides_whether_it_is_tried_again(
    policy: RetryPolicy, error: BaseException, state: str
) -> None:
    event = decide_outcome(make_ended(error), origin(), policy, 0.0, NOW)
    assert event.state == state
    if state == "Failed":
        assert event.reason == "NotRetryable"
        assert event.error is not None
        assert not event.error.retryable


def test_a_redriven_task_has_a_full_set_of_attempts() -> None:
    story = [decide_outcome(make_ended(OSError()), origin(n, spent=3), POLICY, 0.0, NOW) for n in (4, 5, 6)]
    assert [event.state for event in story] == ["Backoff", "Backoff", "Failed"]
    assert story[0].next_at == NOW + timedelta(seconds=2)


def test_backoff_follows_the_policy_and_a_wish_overrides_it() -> None:
    delays = [decide_outcome(make_ended(OSError()), origin(n), POLICY, 0.0, NOW).next_at for n in (1, 2)]
    assert delays == [NOW + timedelta(seconds=2), NOW + timedelta(seconds=4)]
    assert decide_outcome(make_ended(Retry(after=7)), origin(), POLICY, 0.0, NOW).next_at == NOW + timedelta(seconds=7)


def test_the_tasks_policy_beats_the_handlers_and_that_the_pools() -> None:
    task, handler, pool = (RetryPolicy(max_attempts=n) for n in (1, 2, 3))
    assert choose_policy(task, handler, pool) is task
    assert choose_policy(None, handler, pool) is handler
    assert choose_policy(None, None, pool) is pool


def test_a_task_that_names_no_errors_keeps_those_of_its_handler() -> None:
    task, handler = RetryPolicy(max_attempts=9), RetryPolicy(give_up_on=(KeyError,))
    pool = RetryPolicy(retry_on=(OSError,))
    assert choose_policy(task, handler, pool) == RetryPolicy(max_attempts=9, give_up_on=(KeyError,))
    assert choose_policy(task, None, pool) == RetryPolicy(max_attempts=9, retry_on=(OSError,))
    own = RetryPolicy(retry_on=(ValueError,))
    assert choose_policy(own, handler, pool) is own


def test_a_long_traceback_keeps_its_end_and_a_broken_text_stays_writable() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise ValueError("ä" * 100_000 + "\ud800")

    try:
        deep(200)
    except ValueError as error:
        made = make_error(error)
    assert len(made.traceback.encode()) <= MAX_TRACEBACK
    assert len(made.message) == 4096
    assert TaskError.model_validate_json(made.encode()) == made


def test_an_unconfirmed_commit_is_recognised_by_writer_and_time() -> None:
    mine = make_event(origin(), TaskState.SUCCEEDED, NOW)
    stored = mine.model_copy(update={"sequence": 20})
    running = log("Running(1)")
    assert decide_commit(running, mine, 10) == Again()
    assert decide_commit(TaskView((*running.events, stored)), mine, 10) == Stands(20)
    others = stored.model_copy(update={"worker": "w2"})
    assert decide_commit(TaskView((*running.events, others)), mine, 10) == Lost()
    assert decide_commit(TaskView(), mine, 10) == Lost()


ENDED = st.one_of(
    st.just(Ended(result=b"1")),
    st.builds(
        lambda retryable, after: Ended(error=TaskError(type="E", retryable=retryable), retry_after=after),
        st.booleans(),
        st.none() | st.floats(0, 1000),
    ),
    st.builds(lambda seconds: make_ended(Snooze(seconds)), st.floats(0, 1e6)),
    st.builds(lambda reason: make_ended(Cancel(reason)), st.text()),
)
POLICIES = st.builds(RetryPolicy, max_attempts=st.integers(1, 5), initial=st.floats(0, 10), jitter=st.floats(0, 1))


@given(ended=ENDED, policy=POLICIES, attempt=st.integers(1, 6), jitter=st.floats(0, 1))
def test_every_outcome_is_a_step_of_the_state_table_and_never_an_attempt_too_many(
    ended: Ended, policy: RetryPolicy, attempt: int, jitter: float
) -> None:
    event = decide_outcome(ended, origin(attempt), policy, jitter, NOW)
    assert task_may(TaskState.RUNNING, event.state)
    if event.state == TaskState.BACKOFF:
        assert attempt < policy.max_attempts
        assert event.next_at is not None
        assert event.next_at >= NOW
    if event.state == TaskState.FAILED:
        assert event.error is not None


STORY = st.lists(
    st.tuples(st.sampled_from([s for s in TaskState if s != TaskState.PENDING]), st.integers(1, 3)), max_size=8
)


@given(story=STORY, attempt=st.integers(1, 3), limit=st.integers(1, 4))
def test_nothing_runs_over_an_outcome_and_every_claim_expects_the_last_event(
    story: list[tuple[TaskState, int]], attempt: int, limit: int
) -> None:
    view = log(*(f"{state}({number})" for state, number in story))
    decided = decide_claim(view, origin(attempt), limit, NOW)
    last = view.last
    if last and (last.state in TERMINAL or last.attempt > attempt):
        assert decided == Finish(last)
    elif isinstance(decided, Claim | Commit):
        assert decided.expected == (last.sequence if last else 0)
