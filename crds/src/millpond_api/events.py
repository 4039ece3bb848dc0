"""What is written to MILLPOND_EVENTS, and what heartbeats and RPC answers carry: the models of the wire.

A task event is a commit (protocol.md): its `state` and `attempt` are the outcome that stands. Times are UTC with
milliseconds. Unknown fields are ignored, so an older side reads a newer side's events.
"""

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from millpond_api.wire import Wire

MAX_RESULT_BYTES = 512 * 1024
"""A larger result fails the task with ResultTooLarge (NATS carries 1 MiB a message, headers and traceback included)."""
MAX_PAYLOAD_BYTES = 768 * 1024
"""A larger payload is refused at submit with ArgumentsTooLarge."""


class TaskError(Wire):
    """Why an attempt failed: the exception's type, text and traceback (at most 16 KiB of it)."""

    type: str
    message: str = ""
    traceback: str = ""
    retryable: bool = True


class TaskEvent(Wire):
    """One transition of a task. `sequence` is the stream's, filled in by the reader (0 when not stored yet)."""

    state: str
    attempt: int = 1
    at: datetime
    handler: str = ""
    worker: str = ""
    object: str = ""
    """Name of the Task object that submitted it, empty for a task of the SDK."""
    reason: str = ""
    message: str = ""
    result: Any = None
    error: TaskError | None = None
    next_at: datetime | None = None
    sequence: int = 0


class WorkerEvent(Wire):
    """One transition of a worker. `flips` counts Idle⇄Busy changes that this event stands for."""

    state: str
    at: datetime
    reason: str = ""
    message: str = ""
    flips: int = 1
    sequence: int = 0


class InFlight(Wire):
    """A task that a worker runs now."""

    task: str
    handler: str = ""
    attempt: int = 1
    since: datetime
    object: str = ""
    progress: str = ""


class Beat(Wire):
    """A worker's heartbeat: `slots` it has, tasks in flight, totals since its start, mean service time in seconds."""

    state: str
    at: datetime
    started: datetime
    slots: int
    in_flight: list[InFlight] = Field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    service_seconds: float = 0.0
    handlers: list[str] = Field(default_factory=list)
    incarnation: str = ""
    """Differs between two processes of the same pod: a container that restarted."""
    missing: dict[str, int] = Field(default_factory=dict)
    """Handlers that messages asked for and this worker's app does not have, with the messages seen lately."""
    missing_tasks: list[str] = Field(default_factory=list)
    """Task objects that wait for such a handler, the last 20 seen."""


class DrainAsk(Wire):
    """The body of `drain`. `if_idle`: only a worker that runs nothing may take it; a busy one refuses."""

    if_idle: bool = False


class CancelAsk(Wire):
    """The body of `cancel`: the id of the task that was cancelled."""

    task: str


class RpcAnswer(Wire):
    """What a worker answers to an RPC verb. For `drain`: `in_flight` is 0 when it may be removed now."""

    ok: bool = True
    message: str = ""
    state: str = ""
    in_flight: int = 0


def utc_now() -> datetime:
    """Now, in UTC. For edges only: decisions take `now` as an argument."""
    return datetime.now(UTC)
