"""The decisions of the task protocol: what a delivery means, and what an ended attempt becomes. Pure.

Owns the rules of protocol.md steps 2, 4 and 5 as functions of plain data: the log, the envelope, how the handler
ended, `now` and `jitter`. It publishes nothing; `worker.journal` applies what is decided here. That the decisions are
safe under crashes, zombies and lost confirmations is checked by the protocol's model and its state-machine test.
"""

import traceback
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from millpond_api.envelope import Envelope, MalformedTask
from millpond_api.events import TaskError, TaskEvent
from millpond_api.lifecycle import TaskState, TaskView
from millpond_api.retry import RetryPolicy, error_names, is_retried, may_retry, retry_delay

from millpond.errors import Cancel, NonRetryable, Retry, Snooze
from millpond.packing import Packed

MAX_TRACEBACK = 16 * 1024
MAX_MESSAGE = 4 * 1024
LONGEST_DELAY = 10 * 365 * 86400.0
_REFUNDED = (TaskState.QUEUED, TaskState.SCHEDULED)


@dataclass(frozen=True, slots=True)
class Claim:
    """Run it, once `Running` is stored with `expected` as the log's last sequence."""

    expected: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The outcome stands already: complete its consequences, then ack. Nothing runs."""

    event: TaskEvent


@dataclass(frozen=True, slots=True)
class Commit:
    """End it without running: store `event` with `expected` as the log's last sequence."""

    expected: int
    event: TaskEvent


@dataclass(frozen=True, slots=True)
class Stands:
    """The commit is stored, with this sequence."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Again:
    """Our claim is still the last event: the commit was not stored, store it again."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else wrote after our claim: fenced, drop everything."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome that is decided already: the task's state, with its reason and message."""

    state: TaskState
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a handler ended: a packed result, an error, or a wish of its own.

    `kinds` are the names by which a policy may call the error. `retry_after` and `snooze` are seconds; `verdict` is
    an outcome that no policy changes (the handler cancelled its task, a lease was given back).
    """

    result: Packed | None = None
    error: TaskError | None = None
    kinds: tuple[str, ...] = ()
    retry_after: float | None = None
    snooze: float | None = None
    verdict: Verdict | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who writes an event about which task; the same for every event of an attempt."""

    envelope: Envelope
    worker: str


def decide_claim(view: TaskView, origin: Origin, poison_limit: int, now: datetime) -> Claim | Finish | Commit:
    """What a delivery of the envelope's attempt means, given the task's log."""
    attempt, last = origin.envelope.attempt, view.last
    if last is not None and (view.terminal or last.rank > origin.envelope.rank or is_backoff_of(last, attempt)):
        return Finish(last)
    expected = last.sequence if last else 0
    if is_past(origin.envelope.deadline, now):
        return Commit(expected, make_expired(origin, now))
    if last is not None and last.state == TaskState.RUNNING and lost_attempts(view, attempt) >= poison_limit:
        return Commit(expected, make_poisoned(view, origin, now))
    return Claim(expected)


def decide_first_claim(origin: Origin, now: datetime) -> Claim | Commit:
    """The same for a first delivery of attempt 1, whose log is taken to be empty: the fence finds out if it is not."""
    return Commit(0, make_expired(origin, now)) if is_past(origin.envelope.deadline, now) else Claim(0)


def lost_attempts(view: TaskView, attempt: int) -> int:
    """How many `Running(attempt)` of the log ended in nothing. A release refunds, so it does not count."""
    lost = 0
    for event, following in zip(view.events, (*view.events[1:], None), strict=True):
        refunded = following is not None and following.attempt == attempt and following.state in _REFUNDED
        if event.state == TaskState.RUNNING and event.attempt == attempt and not refunded:
            lost += 1
    return lost


def choose_policy(envelope: RetryPolicy | None, handler: RetryPolicy | None, pool: RetryPolicy) -> RetryPolicy:
    """The task's own policy, else the handler's, else the pool's.

    Kinds of errors come from the nearest one that names any: a task that only wants more attempts keeps its handler's.
    """
    chosen = envelope or handler or pool
    if chosen.selects:
        return chosen
    named = next((one for one in (handler, pool) if one and one.selects), None)
    if named is None:
        return chosen
    return chosen.model_copy(update={"retry_on": named.retry_on, "give_up_on": named.give_up_on})


def decide_outcome(ended: Ended, origin: Origin, policy: RetryPolicy, jitter: float, now: datetime) -> TaskEvent:
    """The event that commits how an attempt ended. The result's bytes are added when it is written."""
    error, tries = ended.error, origin.envelope.tries
    if ended.snooze is not None:
        return make_snoozed(origin, ended.snooze, ended.reason, now)
    if ended.verdict is not None:
        return make_decided(origin, ended.verdict, now)
    if error is None:
        return make_event(origin, TaskState.SUCCEEDED, now)
    asked = ended.retry_after is not None
    if not error.retryable or not (asked or is_retried(policy, ended.kinds or (error.type,))):
        return make_failed(origin, "NotRetryable", error.model_copy(update={"retryable": False}), now)
    if not may_retry(policy, tries):
        return make_failed(origin, "AttemptsExhausted", error, now)
    delay = retry_delay(policy, tries, jitter) if ended.retry_after is None else ended.retry_after
    next_at = later(now, delay)
    return make_event(origin, TaskState.BACKOFF, now).model_copy(
        update={"reason": error.type, "message": error.message[:256], "error": error, "next_at": next_at}
    )


def decide_commit(view: TaskView, event: TaskEvent, claim: int) -> Stands | Again | Lost:
    """Whether `event` was stored on top of our claim, after a confirmation that did not come.

    An event of ours is recognised by its writer and its time to the microsecond: a worker commits once per attempt.
    """
    last = view.last
    if last is None:
        return Lost()
    if is_same(last, event):
        return Stands(last.sequence)
    return Again() if last.sequence == claim else Lost()


def is_same(stored: TaskEvent, event: TaskEvent) -> bool:
    return (stored.state, stored.attempt, stored.worker, stored.at) == (
        event.state,
        event.attempt,
        event.worker,
        event.at,
    )


def make_event(origin: Origin, state: TaskState, now: datetime) -> TaskEvent:
    """An event of this attempt without particulars."""
    envelope = origin.envelope
    return TaskEvent(
        state=state,
        attempt=envelope.attempt,
        snoozes=envelope.snoozes,
        spent=envelope.spent,
        at=now,
        handler=envelope.handler,
        worker=origin.worker,
        object=envelope.object,
    )


def make_failed(origin: Origin, reason: str, error: TaskError, now: datetime) -> TaskEvent:
    return make_event(origin, TaskState.FAILED, now).model_copy(
        update={"reason": reason, "message": f"{error.type}: {error.message}"[:256], "error": error}
    )


def make_poisoned(view: TaskView, origin: Origin, now: datetime) -> TaskEvent:
    attempt = origin.envelope.attempt
    runs = [event for event in view.events if event.state == TaskState.RUNNING and event.attempt == attempt]
    names = ", ".join(dict.fromkeys(event.worker for event in runs if event.worker))
    error = TaskError(
        type="PoisonTask",
        message=f"{lost_attempts(view, attempt)} workers were lost while they ran attempt {attempt} ({names}): it may "
        "kill its worker (out of memory, a crash); look at how they ended before you redrive it",
        retryable=False,
    )
    return make_failed(origin, "Poison", error, now)


def make_expired(origin: Origin, now: datetime) -> TaskEvent:
    deadline = origin.envelope.deadline
    return make_event(origin, TaskState.EXPIRED, now).model_copy(
        update={"reason": "DeadlinePassed", "message": f"the deadline {deadline:%Y-%m-%dT%H:%M:%SZ} passed"}
    )


def make_snoozed(origin: Origin, seconds: float, reason: str, now: datetime) -> TaskEvent:
    """Put off: the attempt is refunded, and the message that comes then counts one snooze more."""
    update = {
        "snoozes": origin.envelope.snoozes + 1,
        "reason": "Snoozed",
        "message": reason[:256],
        "next_at": later(now, seconds),
    }
    return make_event(origin, TaskState.SCHEDULED, now).model_copy(update=update)


def later(now: datetime, seconds: float) -> datetime:
    """So many seconds after now, ten years at most: what is put off for longer would be after the end of all dates."""
    return now + timedelta(seconds=min(seconds, LONGEST_DELAY))


def make_decided(origin: Origin, verdict: Verdict, now: datetime) -> TaskEvent:
    return make_event(origin, verdict.state, now).model_copy(
        update={"reason": verdict.reason, "message": verdict.message[:MAX_MESSAGE]}
    )


def make_cancelled(origin: Origin, reason: str, now: datetime) -> TaskEvent:
    return make_decided(origin, Verdict(TaskState.CANCELLED, "Cancelled", reason), now)


def make_released(origin: Origin, now: datetime) -> TaskEvent:
    return make_event(origin, TaskState.QUEUED, now).model_copy(
        update={
            "reason": "Released",
            "message": "its worker was stopped before it could finish; the attempt is refunded",
        }
    )


def make_error(error: BaseException) -> TaskError:
    """The error of a handler's exception, with the end of its traceback: the end is where it was raised."""
    trace = "".join(traceback.format_exception(error))
    return TaskError(
        type=type(error).__name__,
        message=_printable(str(error))[:MAX_MESSAGE],
        traceback=_printable(trace).encode()[-MAX_TRACEBACK:].decode(errors="ignore"),
        retryable=not isinstance(error, NonRetryable | MalformedTask),
    )


def make_ended(error: BaseException) -> Ended:
    """How a handler ended that raised."""
    match error:
        case Snooze():
            return Ended(snooze=error.seconds, reason=_printable(error.reason))
        case Cancel():
            return Ended(verdict=Verdict(TaskState.CANCELLED, "Cancelled", _printable(error.reason)))
        case Retry():
            return Ended(error=make_error(error), retry_after=error.after)
        case _:
            return Ended(error=make_error(error), kinds=error_names(type(error)))


def is_past(deadline: datetime | None, now: datetime) -> bool:
    """Whether the deadline is over; one without a time zone (an older submitter's) is UTC."""
    if deadline is None:
        return False
    return (deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)) <= now


def is_snooze_of(event: TaskEvent, envelope: Envelope) -> bool:
    """Whether the event put off exactly this message, so that the next one has to be scheduled."""
    return event.state == TaskState.SCHEDULED and event.rank == envelope.next_snooze().rank


def is_backoff_of(event: TaskEvent, attempt: int) -> bool:
    return event.state == TaskState.BACKOFF and event.attempt == attempt


def _printable(text: str) -> str:
    """`text` without lone surrogates, which no JSON writer takes."""
    return text.encode(errors="replace").decode()
