"""What travels between a running task and those who speak to it: signals, queries, checkpoints. The models of the wire.

A signal is stored, in order, on the task's own subject of MILLPOND_SIGNALS; a query is a request to the task's worker;
a checkpoint is the one message of the task's subject in MILLPOND_CHECKPOINTS. Values lie in parcels, so they have the
codecs that arguments and results have. Unknown fields are ignored, so an older side reads a newer side's.
"""

from datetime import datetime

from pydantic import Field

from millpond_api.events import Parcel, RpcAnswer, TaskError
from millpond_api.wire import Wire

SIGNALS_PER_TASK = 2000
"""Signals of one task that are kept at once; those that a checkpoint says are dealt with do not count any more."""
SIGNAL_BYTES = 64 * 1024
"""Bytes of a signal's payload: with all of a task's signals full, 128 MB of the server's disk."""
SIGNAL_AGE = 7 * 86400.0
"""Seconds that a signal waits for a task: as long as a task's log is kept."""
CHECKPOINT_BYTES = 512 * 1024
"""Bytes of a checkpoint's state in its codec: NATS carries 1 MiB a message, and base64 makes four bytes of three."""
CHECKPOINT_AGE = 30 * 86400.0
"""Seconds that a checkpoint is kept without being written again: as long as the dead letter of a failed task."""
QUERY_BYTES = 512 * 1024
"""Bytes of a query's answer, as of a checkpoint."""


class SignalNote(Wire):
    """A signal as it is stored; its place in the order is the stream's sequence."""

    name: str = Field(min_length=1, max_length=128)
    at: datetime
    id: str = ""
    parcel: Parcel | None = None


class Position(Wire):
    """How far signals have been taken: all up to `floor` (a sequence of MILLPOND_SIGNALS), and these above it."""

    floor: int = 0
    taken: tuple[int, ...] = ()

    def has(self, sequence: int) -> bool:
        """Whether that signal was taken."""
        return sequence <= self.floor or sequence in self.taken


class CheckpointNote(Wire):
    """A task's last checkpoint. `claim` is the sequence of the writer's claim in the task's log: its fencing token.

    Without a parcel it holds no state: a later attempt has taken over before there was any.
    """

    claim: int
    attempt: int = 1
    worker: str = ""
    at: datetime
    parcel: Parcel | None = None
    position: Position = Position()


class QueryAsk(Wire):
    """The body of `query`: the task, the query's name, and its arguments as the client's codec wrote them."""

    task: str
    name: str
    args: Parcel | None = None
    timeout: float = Field(default=5.0, gt=0, le=600)
    """Seconds that the handler has to answer."""


class QueryAnswer(RpcAnswer):
    """What the handler answered. Codes beside those of every answer: UnknownQuery, QueryFailed, QueryTimeout."""

    parcel: Parcel | None = None
    error: TaskError | None = None
