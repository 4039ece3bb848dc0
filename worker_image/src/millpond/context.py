"""What a handler may know and do about its own attempt.

Owns the view that user code gets; the worker keeps the other end (`Control`) and changes it from its own
thread. Everything here is cheap: a flag, a string, a logger made on first use, a line to the worker (`talking`) that a
task which never speaks does not have. It must do no I/O but in `client`.
"""

import re
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

from millpond_api.messages import CHECKPOINT_BYTES

from millpond.pending import Pending

if TYPE_CHECKING:
    from millpond.client import Client
    from millpond.inbox import Signals
    from millpond.talking import Line, Talk, Word

F = TypeVar("F", bound=Callable[..., Any])
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_MAKING = threading.Lock()

MAX_PROGRESS = 200
"""Characters of progress kept: it travels in every heartbeat."""


@dataclass(slots=True)
class Control:
    """The worker's end of a context: written by one thread and read by another, each field on its own."""

    cancelled: bool = False
    progress: str = ""
    reports: int = 0
    """Signs of progress so far: what tells a busy handler from a hung one."""

    def report(self, text: str) -> None:
        """The handler said how far it is."""
        self.progress, self.reports = text[:MAX_PROGRESS], self.reports + 1


@dataclass(slots=True, eq=False)
class Lease:
    """A lease as the code that runs for it sees it. `token` grows with every grant: a fence for what lies outside."""

    id: str
    token: int
    owner: str
    state: dict[str, Any]
    """Kept from its opening to its end, for this lease alone."""


async def _no_client() -> "Client":
    raise RuntimeError("ctx.client() needs a running worker, and an async handler: open a Client of your own instead")


@dataclass(slots=True, eq=False)
class Context:
    """One attempt at a task, as its handler sees it."""

    task_id: str
    handler: str = ""
    attempt: int = 1
    deadline: datetime | None = None
    parent: str = ""
    trace: str = ""
    """W3C traceparent of the submitter, empty when there is none."""
    _control: Control = field(default_factory=Control)
    _connect: Callable[[], Awaitable["Client"]] = _no_client
    _logger: Any = None
    lease: Lease | None = None
    """Of a call to a leased worker; None in a task."""
    _line: "Line | None" = None
    _talk: "Talk | None" = None

    @property
    def logger(self) -> Any:
        """A structlog logger that names the task, the handler and the attempt on every line."""
        if self._logger is None:
            # Imported here: most attempts never log, and it keeps structlog out of a client's start-up.
            import structlog

            self._logger = structlog.get_logger("millpond.task").bind(
                task=self.task_id, handler=self.handler, attempt=self.attempt
            )
        return self._logger

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled the task or its time is over. A plain function should look now and then."""
        return self._control.cancelled

    def progress(self, value: str | float, message: str = "") -> None:
        """Say how far it is, as a text or a percentage; it shows in the worker's next heartbeat."""
        text = f"{value:g}%" if isinstance(value, int | float) else value
        self._control.report(f"{text} {message}".strip())

    async def client(self) -> "Client":
        """A client on the worker's own NATS, connected on first use and shared by all handlers. Do not close it."""
        return await self._connect()

    @property
    def signals(self) -> "Signals":
        """What `handle.signal` sends to this task, also before it ran: `async for signal in ctx.signals`."""
        return self._talking().signals

    @overload
    def query(self, name: F) -> F: ...
    @overload
    def query(self, name: str) -> Callable[[F], F]: ...
    def query(self, name: F | str) -> F | Callable[[F], F]:
        """Answer `handle.query(name)` by this function: `@ctx.query`, or `@ctx.query("name")`.

        An async handler's runs in the handler's own event loop, so it sees its state between two awaits; a plain
        handler's runs on another thread beside it: what both touch must bear that.
        """
        if not isinstance(name, str):
            self._talking().add_query(name.__name__, name)
            return name

        def register(function: F) -> F:
            self._talking().add_query(name, function)
            return function

        return register

    def checkpoint(self, state: Any) -> Pending[None]:
        """Keep `state` (512 KiB) for the next attempt: `await` it, or `.result()` in a plain function.

        When it returns, the state is stored, and the signals taken so far will not come again. CheckpointRefused when
        another attempt of the task has gone on from the last checkpoint meanwhile: stop, this one does not count.
        """
        talk = self._talking()
        parcel = talk.parcels.pack("the checkpoint", state, CHECKPOINT_BYTES)
        return self._ask("checkpoint", (parcel, talk.signals.position()))

    def resume(self, default: Any = None) -> Pending[Any]:
        """The state of the task's last checkpoint, or `default`: `await` it, or `.result()` in a plain function.

        From now on no earlier attempt that may still run somewhere can write one.
        """
        open_parcel = self._talking().parcels.open
        return self._ask("resume").then(lambda found: default if found is None else open_parcel(found))

    def tell(self, reason: str, message: str = "") -> Pending[bool]:
        """Tell the operator something, which posts it as an Event of the Worker: `reason` in CamelCase, as there.

        False: dropped, because this worker has told too much lately (6 a minute; the log holds 32 entries).
        """
        if not _REASON.fullmatch(reason):
            raise ValueError(f"reason {reason!r} must be one word in CamelCase, such as DiskSlow (64 letters at most)")
        return self._ask("tell", (reason, message))

    def recycle(self, reason: str) -> Pending[None]:
        """Ask for this worker to be drained and started afresh: this attempt and the others on it end first."""
        return self._ask("recycle", reason)

    def _ask(self, verb: str, body: Any = None) -> Pending[Any]:
        talk = self._talking()
        return Pending(talk.ask(verb, body), talk.is_over)

    def _talking(self) -> "Talk":
        """The line to the worker, made when first used."""
        with _MAKING:
            if self._talk is None:
                if self._line is None:
                    raise RuntimeError(
                        "this needs a worker that runs the attempt: none does (any more). In tests, run the handler by "
                        "millpond.testing.Pool"
                    )
                # Imported here: it needs the codecs, which a client's start-up does not.
                from millpond.talking import Talk

                self._talk = Talk(self._line, lambda: self._control.cancelled)
            return self._talk

    def connect_line(self, line: "Line") -> None:
        """The worker's: there is a way to it from now on."""
        self._line = line

    def hear(self, word: "Word") -> None:
        """The worker's: it says something to the handler."""
        self._talking().hear(word)

    def part(self) -> None:
        """The worker's: the attempt is over."""
        self._line = None


CURRENT: ContextVar[Context | None] = ContextVar("millpond_context", default=None)
"""The attempt that this code runs in, wherever it runs: set for each call of a handler."""


def current() -> Context | None:
    """The context of the attempt that this code runs in, for code that is not handed one; None outside of a handler."""
    return CURRENT.get()
