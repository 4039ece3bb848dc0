"""One call of a handler: its arguments decoded, its result encoded, whatever it raises turned into how it ended.

Owns what is the same wherever a handler runs (a loop, a thread, a child process), and what the places have in common
for their callers (`Job`, `Run`). It must start neither threads nor processes.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from millpond_api.envelope import Envelope

from millpond.context import CURRENT, Context, Control
from millpond.errors import BadArguments, TaskCancelled
from millpond.outcomes import Ended, make_ended
from millpond.packing import Packed, Wrap, open_arguments, pack_result
from millpond.registry import Handler
from millpond.talking import Answered, Asked, Word
from millpond.timeouts import NONE, Limits
from millpond.tracing import check_trace, enter_trace

if TYPE_CHECKING:
    from millpond.client import Client

NOBODY = "nobody converses with this code: the attempt at its task is over, or it is a leased worker's call and no task"
Connect = Callable[[], Awaitable["Client"]]


class Run(Protocol):
    """A handler that was started somewhere. All but `where` are called in the worker's main loop and never block."""

    @property
    def killable(self) -> bool:
        """Whether `kill` really ends it."""

    def cancel(self) -> None:
        """Ask it to stop: an async handler by CancelledError, a plain one by its context only."""

    def interrupt(self, error: Exception) -> None:
        """Raise `error` in it, as soon as its place can."""

    def kill(self) -> None:
        """End it by force, or give it up where force does not reach. `done` need not be called after this."""

    async def settle(self) -> None:
        """After `kill`: until its place can take another one."""

    def tell(self, word: Word) -> bool:
        """Give the handler's end of the line a word; False: it is not there (yet)."""

    def where(self) -> str:
        """Its stack now, as text; may take half a second."""


class Outbox(Protocol):
    """The way into the worker's main loop, from any thread."""

    def post(self, call: Callable[[], None]) -> None: ...


@dataclass(eq=False)
class Job:
    """One call of a handler. `done` is called at most once, in the main loop."""

    handler: Handler
    envelope: Envelope
    context: Context
    control: Control
    wrap: Wrap
    body: bytes
    """The message's body and how it is wrapped: opened where the handler runs, it may be large."""
    done: Callable[[Ended], None]
    begun: Callable[[], None] = lambda: None
    """Called once, in the main loop, when the handler's time begins: a child process may have to be made first."""
    limits: Limits = NONE
    run: Run | None = None
    claim: int = 0
    """The sequence of the claim that it runs under."""
    outside: bool = False
    """Counted as work that the main loop does not see (`hosts.Place`)."""
    outbox: Outbox | None = None
    said: Callable[[Word], None] | None = None
    """Called in the main loop with what the handler says to its worker; None: nobody there converses with it."""

    def say(self, word: Word) -> None:
        """The handler's end of the line says something, on whatever thread (`talking.Line`)."""
        if self.outbox:
            self.outbox.post(lambda: self._pass_on(word))

    def _pass_on(self, word: Word) -> None:
        if self.said:
            self.said(word)
        elif isinstance(word, Asked):
            answer = Answered(word.number, error=TaskCancelled(NOBODY))
            self.run.tell(answer) if self.run else self.context.hear(answer)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional ones (with the context, if it is wanted) and keywords."""
        found = open_arguments(self.wrap, self.body)
        return ([self.context, *found.args] if self.handler.wants_context else found.args), found.kwargs

    def pack(self, result: Any) -> Packed:
        return pack_result(self.wrap, result)

    def part(self) -> None:
        """Nobody waits for it any more: without its ends it is freed at once, and not by a collection.

        The attempt and the run hold it and it holds them: 28 objects a task, and a tenth of the main thread's time.
        """
        self.run, self.done, self.begun, self.said = None, _ignore, _ignore, None
        self.context.part()


def _ignore(*_: object) -> None:
    """What ends after its attempt reaches nobody."""


def make_context(envelope: Envelope, control: Control, connect: Connect) -> Context:
    """The handler's view of its attempt."""
    return Context(
        envelope.id,
        envelope.handler,
        envelope.attempt,
        envelope.deadline,
        envelope.parent,
        check_trace(envelope.trace),
        control,
        connect,
    )


def call_plain(job: Job) -> Ended:
    """Run a plain handler to its end, whatever that is. What it sets in its context, the next does not see."""
    return contextvars.copy_context().run(_call_plain, job)


def _call_plain(job: Job) -> Ended:
    CURRENT.set(job.context)
    try:
        enter_trace(job.context.trace)
        return Ended(result=job.pack(_call(job)))
    # The function is the user's: whatever it raises, SystemExit too, is how this attempt ended, nothing more.
    except BaseException as error:
        return make_ended(error)


async def call_async(job: Job, driver: "Driver | None") -> Ended:
    """The same for an async handler; with a `driver` it can be interrupted."""
    CURRENT.set(job.context)
    try:
        enter_trace(job.context.trace)
        awaitable = _call(job)
        return Ended(result=job.pack(await (driver.drive(awaitable) if driver else awaitable)))
    # As above.
    except BaseException as error:
        return make_ended(error)


def _call(job: Job) -> Any:
    """Call the handler with the message's arguments."""
    args, kwargs = job.arguments()
    try:
        return job.handler.function(*args, **kwargs)
    except TypeError as error:
        # Raised by the call itself, not inside the function: no attempt with these arguments can ever succeed.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            name = job.handler.name
            raise BadArguments(f"handler {name!r} cannot be called with these arguments: {error}") from None
        raise


class Driver:
    """Steps a handler's coroutine, so that an error of ours can be raised where it waits.

    asyncio can only cancel. Here the cancellation that wakes the coroutine is exchanged for the error, so the handler
    may catch it and go on; `Task.uncancel` (Python 3.11) leaves no trace of it for `asyncio.timeout` and task groups.
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self.task: asyncio.Task[Any] | None = None

    def interrupt(self, error: BaseException) -> None:
        """In the coroutine's loop, never from within it."""
        self._error = error
        if self.task:
            self.task.cancel()

    def drive(self, coroutine: Any) -> "_Driven":
        return _Driven(self, coroutine)

    def exchange(self, raised: BaseException | None) -> BaseException | None:
        """What to raise in the coroutine instead of `raised`."""
        if self._error is None:
            return raised
        if isinstance(raised, asyncio.CancelledError) and self.task:
            self.task.uncancel()
        error, self._error = self._error, None
        return error


class _Driven:
    """The awaitable of one coroutine under a driver, and the iterator that steps it."""

    def __init__(self, driver: Driver, coroutine: Any) -> None:
        self._driver, self._coroutine = driver, coroutine
        self._steps = coroutine.__await__()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> "_Driven":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        error = self._driver.exchange(None)
        return self._steps.send(value) if error is None else self._steps.throw(error)

    def throw(self, kind: Any, value: BaseException | None = None, _: Any = None) -> Any:
        raised = value if value is not None else kind() if isinstance(kind, type) else kind
        return self._steps.throw(self._driver.exchange(raised))

    def close(self) -> None:
        self._steps.close()
