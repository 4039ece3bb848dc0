"""What a handler may know and do about its own attempt.

Owns the view that user code gets; the worker keeps the other end (`Control`) and changes it from its own
thread. Everything here is cheap: a flag, a string, a logger made on first use. It must do no I/O but in `client`.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millpond.client import Client

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


CURRENT: ContextVar[Context | None] = ContextVar("millpond_context", default=None)
"""The attempt that this code runs in, wherever it runs: set for each call of a handler."""


def current() -> Context | None:
    """The context of the attempt that this code runs in, for code that is not handed one; None outside of a handler."""
    return CURRENT.get()
