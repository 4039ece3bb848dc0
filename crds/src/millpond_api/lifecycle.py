"""The state machines of tasks and workers: the one table, and the fold of a log into a view.

Owns states, allowed transitions and how events become a state. It decides nothing and knows no broker: the README's
diagrams, the property tests and the status projection all read these tables. Events may arrive twice and out of
order: `fold` is idempotent and commutative, because a log's sequence number orders it, not the time of arrival.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from millpond_api.events import TaskEvent


class TaskState(StrEnum):
    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    QUEUED = "Queued"
    RUNNING = "Running"
    BACKOFF = "Backoff"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"


class WorkerState(StrEnum):
    STARTING = "Starting"
    IDLE = "Idle"
    BUSY = "Busy"
    LEASED = "Leased"
    DRAINING = "Draining"
    STOPPED = "Stopped"
    LOST = "Lost"
    FAILED = "Failed"


TERMINAL = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED})
WORKER_ENDED = frozenset({WorkerState.STOPPED, WorkerState.FAILED})


@dataclass(frozen=True)
class Transition:
    """One allowed step of a state machine, and what causes it."""

    source: str
    target: str
    why: str


_T, _W = TaskState, WorkerState

TASK_TRANSITIONS: tuple[Transition, ...] = (
    Transition(_T.PENDING, _T.SCHEDULED, "it has a future time"),
    Transition(_T.PENDING, _T.QUEUED, "its pool has room"),
    Transition(_T.SCHEDULED, _T.QUEUED, "its time has come"),
    Transition(_T.QUEUED, _T.RUNNING, "a worker claims it"),
    Transition(_T.RUNNING, _T.RUNNING, "its worker was lost; another claims it"),
    Transition(_T.RUNNING, _T.SUCCEEDED, "the handler returned"),
    Transition(_T.RUNNING, _T.FAILED, "not retryable, or the last attempt"),
    Transition(_T.RUNNING, _T.BACKOFF, "a retryable error"),
    Transition(_T.RUNNING, _T.QUEUED, "released at shutdown (attempt refunded)"),
    Transition(_T.RUNNING, _T.SCHEDULED, "snoozed (attempt refunded)"),
    Transition(_T.RUNNING, _T.CANCELLED, "cancelled"),
    Transition(_T.RUNNING, _T.EXPIRED, "its deadline passed"),
    Transition(_T.BACKOFF, _T.QUEUED, "the delay is over"),
    Transition(_T.BACKOFF, _T.RUNNING, "the delay is over; a worker claims it"),
    Transition(_T.SCHEDULED, _T.RUNNING, "its time has come; a worker claims it"),
    Transition(_T.FAILED, _T.QUEUED, "redrive"),
    *(Transition(s, _T.CANCELLED, "cancelled") for s in (_T.PENDING, _T.SCHEDULED, _T.QUEUED, _T.BACKOFF)),
    *(Transition(s, _T.EXPIRED, "its deadline passed") for s in (_T.PENDING, _T.SCHEDULED, _T.QUEUED, _T.BACKOFF)),
    Transition(_T.QUEUED, _T.FAILED, "the message is malformed"),
)

_LIVE = (_W.STARTING, _W.IDLE, _W.BUSY, _W.LEASED, _W.DRAINING)

WORKER_TRANSITIONS: tuple[Transition, ...] = (
    Transition(_W.STARTING, _W.IDLE, "connected and ready"),
    Transition(_W.IDLE, _W.BUSY, "a slot runs a task"),
    Transition(_W.BUSY, _W.IDLE, "all slots are free"),
    Transition(_W.IDLE, _W.LEASED, "a client checks it out"),
    Transition(_W.LEASED, _W.IDLE, "the client checks it in"),
    Transition(_W.BUSY, _W.LEASED, "a client checks out one of its slots"),
    Transition(_W.LEASED, _W.BUSY, "it is checked in; other slots run tasks"),
    *(Transition(s, _W.DRAINING, "asked to drain") for s in (_W.STARTING, _W.IDLE, _W.BUSY, _W.LEASED)),
    Transition(_W.DRAINING, _W.STOPPED, "nothing runs any more"),
    *(Transition(s, _W.LOST, "heartbeats missed") for s in _LIVE),
    *(Transition(_W.LOST, s, "heartbeats are back") for s in _LIVE),
    Transition(_W.LOST, _W.STOPPED, "its pod is gone"),
    Transition(_W.STARTING, _W.STOPPED, "its pod is gone"),
    *(Transition(s, _W.FAILED, "crashed, OOMKilled or evicted") for s in (*_LIVE, _W.LOST)),
    *(Transition(s, _W.STARTING, "its container started again") for s in (_W.FAILED, _W.STOPPED)),
)

_TASK_STEPS = frozenset((t.source, t.target) for t in TASK_TRANSITIONS)
_WORKER_STEPS = frozenset((t.source, t.target) for t in WORKER_TRANSITIONS)


def task_may(source: str, target: str) -> bool:
    """Whether the table allows a task to step from `source` to `target`."""
    return (source, target) in _TASK_STEPS


def worker_may(source: str, target: str) -> bool:
    """Whether the table allows a worker to step from `source` to `target`."""
    return (source, target) in _WORKER_STEPS


@dataclass(frozen=True)
class TaskView:
    """A task as its log tells it: the events by sequence, oldest first. Everything else is derived."""

    events: tuple[TaskEvent, ...] = ()

    @property
    def last(self) -> TaskEvent | None:
        return self.events[-1] if self.events else None

    @property
    def state(self) -> TaskState:
        """Queued when the log is empty: the submission itself writes no event (protocol, step 1)."""
        return TaskState(self.last.state) if self.last else TaskState.QUEUED

    @property
    def attempts(self) -> int:
        """Attempts that were started and not refunded."""
        last = self.last
        if last is None:
            return 0
        refunded = last.state in (TaskState.QUEUED, TaskState.SCHEDULED)
        never_ran = last.state in (TaskState.CANCELLED, TaskState.EXPIRED, TaskState.FAILED) and not any(
            e.state == TaskState.RUNNING and e.attempt == last.attempt for e in self.events
        )
        return last.attempt - (1 if refunded or never_ran else 0)

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL


def fold(view: TaskView, event: TaskEvent) -> TaskView:
    """`view` with `event` in its place by sequence; unchanged when it is already there."""
    if any(known.sequence == event.sequence for known in view.events):
        return view
    return TaskView(tuple(sorted((*view.events, event), key=lambda e: e.sequence)))


def fold_all(events: Iterable[TaskEvent]) -> TaskView:
    """The view of a whole log, in any order and with repetitions."""
    unique = {event.sequence: event for event in events}
    return TaskView(tuple(unique[sequence] for sequence in sorted(unique)))


def read_events(stored: Iterable[tuple[int, bytes]]) -> list[TaskEvent]:
    """The events of a log from (sequence, body), oldest first; what cannot be read changes nothing but the sequence.

    It stands as the event before it (as `Queued` at the beginning): a newer side, or somebody else, wrote it, and the
    next writer still has to expect its sequence. Nobody's log may end a worker, a client or the operator.
    """
    found: list[TaskEvent] = []
    for sequence, body in stored:
        event = read_event(sequence, body)
        if event is None:
            before = found[-1] if found else _UNREAD
            event = before.model_copy(update={"sequence": sequence})
        found.append(event)
    return found


def read_event(sequence: int, body: bytes) -> TaskEvent | None:
    """One event with its sequence; None when it is none, or of a state that this side does not know."""
    try:
        event = TaskEvent.model_validate_json(body)
        TaskState(event.state)
    except ValueError:  # pydantic's ValidationError is one
        return None
    return event.model_copy(update={"sequence": sequence})


_UNREAD = TaskEvent(
    state=TaskState.QUEUED, at=datetime.fromtimestamp(0, UTC), reason="Unreadable", message="an event nobody can read"
)


def withdrawn(last: TaskEvent | None, why: tuple[str, str], now: datetime) -> TaskEvent:
    """`Cancelled` by somebody who is not its worker, on top of a log's last event; `why`: reason and message."""
    seen = last or TaskEvent(state=TaskState.QUEUED, at=now)
    reason, message = why
    return TaskEvent(
        state=TaskState.CANCELLED,
        attempt=seen.attempt,
        at=now,
        handler=seen.handler,
        worker=seen.worker,
        object=seen.object,
        reason=reason,
        message=message,
    )
