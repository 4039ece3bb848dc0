"""What is written to MILLPOND_EVENTS, and what heartbeats and RPC answers carry: the models of the wire.

A task event is a commit (protocol.md): its `state` and `attempt` are the outcome that stands. Times are UTC with
milliseconds. Unknown fields are ignored, so an older side reads a newer side's events.
"""

import sys
from collections.abc import Callable
from dataclasses import field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from millpond_api.wire import Record, Wire

INLINE_RESULT = 64 * 1024
"""A larger result goes to the object store, and the terminal event names it (`results.inlineMax` of the pool)."""
MAX_INLINE_RESULT = 512 * 1024
"""What a pool may set that to: NATS carries 1 MiB a message, headers and traceback included."""
MAX_OBJECT_BYTES = 64 * 1024 * 1024
"""A larger result fails the task with ResultTooLarge: the worker and the waiting client hold it in memory."""
RESULT_TTL = 86400.0
"""Seconds that a result in the object store is kept, unless the pool says otherwise."""
MAX_PAYLOAD_BYTES = 768 * 1024
"""A larger payload is refused at submit with ArgumentsTooLarge."""

T = TypeVar("T")


Word = Annotated[str, AfterValidator(sys.intern)]
"""A word that thousands of workers say: kept once."""


@lru_cache(maxsize=1000)
def _share(words: tuple[str, ...]) -> tuple[str, ...]:
    return words


Words = Annotated[tuple[str, ...], AfterValidator(_share)]
"""A list of words that thousands of workers say alike: kept once."""


_EMPTY: dict[type, Any] = {}


def _keep_empty_once(value: T) -> T:
    return value if value else _EMPTY.setdefault(type(value), value)


Once = AfterValidator(_keep_empty_once)
"""What is empty for nearly all of thousands of workers is one object; nobody may write into it."""


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]
"""With Python's one UTC; pydantic's parser gives each time a zone of its own (40 bytes)."""


class TaskError(Wire):
    """Why an attempt failed: the exception's type, text and traceback (at most 16 KiB of it)."""

    type: str
    message: str = ""
    traceback: str = ""
    retryable: bool = True


class LostWorker(Wire):
    """A worker that was lost while it ran a task, and what its pod says of its end (`OOMKilled`, exit code 137)."""

    worker: str
    reason: str = ""
    message: str = ""
    exit_code: int | None = None


class LossNote(Wire):
    """Written by the operator beside the dead letter of a quarantined task: how the workers of that attempt ended."""

    attempt: int = 1
    at: datetime
    workers: tuple[LostWorker, ...] = ()


class Aside(Wire):
    """A task that a limit has put aside: which message of the queue it was, and what it waits with.

    Part of `Scheduled` (it comes back at its time, with `passes`) and `Queued` (it waits for a place of `key`).
    """

    message: int
    passes: dict[str, float] = Field(default_factory=dict)
    key: str = ""


class Parcel(Wire):
    """A result that is not plain JSON in its event: in another codec, compressed, or kept in the object store."""

    codec: str = "json"
    zip: str = ""
    size: int = 0
    """Bytes that the codec wrote, before the compression."""
    data: str = ""
    """The bytes in base64, when they are in the event."""
    object: str = ""
    """The name of the object that holds them (`subjects.stored_object`), when they are not."""
    stored: int = 0
    """Bytes of that object."""
    expires: datetime | None = None
    """When the object is deleted."""


class TaskEvent(Wire):
    """One transition of a task. `sequence` is the stream's, filled in by the reader (0 when not stored yet)."""

    state: str
    attempt: int = 1
    snoozes: int = 0
    """How often the task had been put off: of two messages of one attempt the one with more is the later."""
    spent: int = 0
    """Attempts before the last redrive."""
    at: datetime
    handler: str = ""
    worker: str = ""
    object: str = ""
    """Name of the Task object that submitted it, empty for a task of the SDK."""
    reason: str = ""
    message: str = ""
    result: Any = None
    parcel: Parcel | None = None
    """The result, where `result` could not hold it."""
    error: TaskError | None = None
    next_at: datetime | None = None
    aside: Aside | None = None
    sequence: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """The message that it belongs to, as `Envelope.rank`."""
        return self.attempt, self.snoozes


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent(Record):
    """One transition of a worker, or a word about one that changes no state.

    `flips` counts changes between Idle, Busy and Leased that this event stands for.
    """

    state: str
    at: datetime
    reason: str = ""
    message: str = ""
    flips: int = 1
    sequence: int = 0
    told: bool = False
    """A handler's word to the operator (`ctx.tell`): it becomes an Event of the Worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight(Record):
    """A task that a worker runs now."""

    task: str
    handler: Word = ""
    attempt: int = 1
    since: Moment
    object: str = ""
    progress: str = ""
    hung: datetime | None = None
    """Past its soft timeout without a sign of progress, seen then; None while it is busy."""
    where: str = ""
    """Where it hangs: file, line and function."""
    owner: str = ""
    """Of a lease: who holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Record):
    """A worker's heartbeat: `slots` it has, tasks in flight, totals since its start, mean service time in seconds.

    `at` is when what it says became so: a beat that says nothing new is the same, byte for byte, and costs no parsing.
    """

    state: Word
    at: Moment
    started: Moment
    slots: int
    in_flight: Annotated[list[InFlight], Once] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    service_seconds: float = 0.0
    handlers: Words = ()
    incarnation: str = ""
    """Differs between two processes of the same pod: a container that restarted."""
    missing: Annotated[dict[str, int], Once] = field(default_factory=dict)
    """Handlers that messages asked for and this worker's app does not have, with the messages seen lately."""
    starved: datetime | None = None
    """Since when a call into C holds the worker's interpreter: its understudy says so, and keeps its leases."""
    missing_tasks: Annotated[list[str], Once] = field(default_factory=list)
    """Task objects that wait for such a handler, the last 20 seen."""
    limited: bool = False
    """Whether the pool's rate has held it back in the last seconds."""
    remote: Word = ""
    """The host of a worker outside the cluster; empty: it runs in a pod of its name."""
    served: Annotated[dict[Word, tuple[int, float]], Once] = field(default_factory=dict)
    """By class, once it has served more than one: attempts that ended since its start, and their seconds in all."""


class DrainAsk(Wire):
    """The body of `drain`. `if_idle`: only a worker that runs nothing may take it; a busy one refuses."""

    if_idle: bool = False


class CancelAsk(Wire):
    """The body of `cancel`: the id of the task that was cancelled. `hard`: by force, if it does not end when asked."""

    task: str
    hard: bool = False


NOT_RUNNING = "NotRunning"
"""The code of an answer: the task does not run at this worker (any more)."""


class RpcAnswer(Wire):
    """What a worker answers to an RPC verb. For `drain`: `in_flight` is 0 when it may be removed now.

    `code` is a word for programs why it is not ok (`NotRunning`, `UnknownVerb`), `message` a sentence for people.
    """

    ok: bool = True
    code: str = ""
    message: str = ""
    state: str = ""
    in_flight: int = 0


def _read_system_clock() -> datetime:
    return datetime.now(UTC)


_read_clock: Callable[[], datetime] = _read_system_clock


def utc_now() -> datetime:
    """Now, in UTC. For edges only: decisions take `now` as an argument."""
    return _read_clock()


def set_clock(read: Callable[[], datetime] | None) -> None:
    """What `utc_now` reads in this process from now on; None: the system's clock. For tests with virtual time."""
    global _read_clock  # noqa: PLW0603  # one clock for a process, as the system's is
    _read_clock = read or _read_system_clock
