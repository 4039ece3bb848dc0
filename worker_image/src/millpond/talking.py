"""The handler's end of the line to its worker: words in both directions, and who waits for an answer.

Owns what has to be the same wherever a handler runs: asking the worker for something, being asked a query, hearing
signals. The line itself is the place's (a mailbox in this process, a pipe from a child): words are plain data that can
be pickled. Any thread may call in here; nothing blocks. An attempt that is over answers nobody any more.
"""

import asyncio
import concurrent.futures
import inspect
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from millpond_api.events import Parcel, TaskError
from millpond_api.messages import QUERY_BYTES, SignalNote

from millpond.inbox import Signal, Signals
from millpond.outcomes import make_error
from millpond.packing import Wrap
from millpond.parcels import Parcels

QUERY_THREADS = 4
"""Queries of a plain handler that are answered at once, each on a thread."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Handler → worker: do this, and tell me (`Answered`)."""

    number: int
    verb: str
    body: Any = None


@dataclass(frozen=True, slots=True)
class Answered:
    """Worker → handler."""

    number: int
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """Worker → handler: a signal, in order."""

    sequence: int
    note: SignalNote


@dataclass(frozen=True, slots=True)
class Queried:
    """Worker → handler: somebody asks this, with these arguments (a list)."""

    number: int
    name: str
    args: Parcel | None = None


@dataclass(frozen=True, slots=True)
class Replied:
    """Handler → worker. `known` are the names of its queries when this is none of them."""

    number: int
    parcel: Parcel | None = None
    error: TaskError | None = None
    known: tuple[str, ...] | None = None


Word = Asked | Answered | Arrived | Queried | Replied


class Line(Protocol):
    """The way to the worker, from any thread."""

    @property
    def wrap(self) -> Wrap:
        """How the task's values are written."""

    def say(self, word: Word) -> None: ...


class Talk:
    """One attempt's end."""

    def __init__(self, line: Line, is_over: Callable[[], bool]) -> None:
        self._line, self.is_over = line, is_over
        self.parcels = Parcels.of_task(line.wrap)
        self.signals = Signals(lambda: self.ask("signals"), is_over)
        self._queries: dict[str, tuple[Callable[..., Any], asyncio.AbstractEventLoop | None]] = {}
        self._numbers = itertools.count(1)
        self._asked: dict[int, concurrent.futures.Future[Any]] = {}
        self._threads = threading.Semaphore(QUERY_THREADS)

    def ask(self, verb: str, body: Any = None) -> "concurrent.futures.Future[Any]":
        """Ask the worker; the future has its answer."""
        number, future = next(self._numbers), concurrent.futures.Future[Any]()
        # An answer may come for somebody who was cancelled meanwhile: it is dropped, and is no error.
        future.set_running_or_notify_cancel()
        self._asked[number] = future
        self._line.say(Asked(number, verb, body))
        return future

    def add_query(self, name: str, function: Callable[..., Any]) -> None:
        """Answer this query by that function: in the event loop that runs now, or else on a thread of its own."""
        try:
            loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        self._queries[name] = (function, loop)

    def hear(self, word: Word) -> None:
        """What the worker says."""
        match word:
            case Arrived(sequence, note):
                self.signals.put(Signal(sequence, note, self.parcels))
            case Answered(number, value, error):
                future = self._asked.pop(number, None)
                if future is not None:
                    future.set_exception(error) if error else future.set_result(value)
            case Queried():
                self._answer(word)

    def _answer(self, asked: Queried) -> None:
        function, loop = self._queries.get(asked.name, (None, None))
        if function is None:
            self._line.say(Replied(asked.number, known=tuple(sorted(self._queries))))
        elif loop is not None:
            # A loop that is closed has no handler any more: nobody answers, and the worker says so in time.
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: loop.create_task(self._answer_async(asked, function)))
        elif self._threads.acquire(blocking=False):
            threading.Thread(target=self._answer_plain, args=(asked, function), daemon=True).start()
        else:
            busy = TaskError(type="Busy", message=f"{QUERY_THREADS} queries of this task are being answered already")
            self._line.say(Replied(asked.number, error=busy))

    async def _answer_async(self, asked: Queried, function: Callable[..., Any]) -> None:
        self._line.say(await self._call(asked, function))

    def _answer_plain(self, asked: Queried, function: Callable[..., Any]) -> None:
        try:
            self._line.say(asyncio.run(self._call(asked, function)))
        finally:
            self._threads.release()

    async def _call(self, asked: Queried, function: Callable[..., Any]) -> Replied:
        try:
            found = function(*(self.parcels.open(asked.args) or ()))
            value = await found if inspect.isawaitable(found) else found
            # As the asker writes: he can read that.
            codec = asked.args.codec if asked.args else self.parcels.codec
            packed = replace(self.parcels, codec=codec).pack(f"the answer to query {asked.name!r}", value, QUERY_BYTES)
            return Replied(asked.number, packed)
        # The function is the user's: what it raises is the answer, and the handler itself goes on.
        except Exception as error:
            return Replied(asked.number, error=make_error(error))
