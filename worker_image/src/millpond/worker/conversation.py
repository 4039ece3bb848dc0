"""What one running attempt says and hears: signals, queries, checkpoints, words to its worker's supervisor.

Owns the worker's end of the line, on the main loop; it is made with the first word, so an attempt that never speaks
costs nothing. It must not decide how the task goes on. Whoever still waits for an answer when the attempt ends is told
so. What is left behind (signals, the checkpoint) is the `Switchboard`'s to remove once the task has ended for good.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from millpond_api import subjects
from millpond_api.events import NOT_RUNNING
from millpond_api.messages import Position, QueryAnswer, QueryAsk

from millpond.errors import BrokerRefused, MillpondError, TaskCancelled
from millpond.talking import Answered, Arrived, Asked, Queried, Replied, Word
from millpond.transport import Transport, TransportError
from millpond.worker.checkpoints import Checkpoints, Writer
from millpond.worker.mail import Mail

TELL_MOST, TELL_WITHIN = 6, 60.0
"""Notes that handlers may add to a worker's log of transitions in so many seconds: the log holds the last 32."""
PURGE_PATIENCE = 2.0
"""Seconds that a worker which ends gives to what it is still removing; the rest goes by age."""


@dataclass(eq=False)
class Switchboard:
    """What a worker's conversations share. `note` writes into its log of transitions, `recycle` drains and ends it."""

    transport: Transport
    where: tuple[str, str, str]
    note: Callable[[str, str], None]
    recycle: Callable[[str], None]
    mails: set[Mail] = field(default_factory=set)
    _told: deque[float] = field(default_factory=deque)
    _purging: set[asyncio.Task[None]] = field(default_factory=set)

    def wake(self) -> None:
        """After a reconnect: what was pushed meanwhile was not heard."""
        for mail in self.mails:
            mail.news.set()

    def tell(self, reason: str, message: str, now: float) -> bool:
        """Whether it was noted; `now` in seconds."""
        while self._told and self._told[0] <= now - TELL_WITHIN:
            self._told.popleft()
        if len(self._told) >= TELL_MOST:
            return False
        self._told.append(now)
        self.note(reason, message)
        return True

    def forget(self, task: str) -> None:
        """The task has ended for good: its signals and its checkpoint go. Idempotent; what is missed goes by age."""
        namespace, pool, _ = self.where
        for stream, subject in (
            (subjects.STREAM_SIGNALS, subjects.signals(namespace, pool, task)),
            (subjects.STREAM_CHECKPOINTS, subjects.checkpoint(namespace, pool, task)),
        ):
            self.purge(stream, {"filter": subject})

    def purge(self, stream: str, which: dict[str, object]) -> None:
        """Remove messages that nobody needs any more, beside everything else: a worker that may not has only waited."""
        purging = asyncio.create_task(self._purge(stream, which))
        self._purging.add(purging)
        purging.add_done_callback(self._purging.discard)

    async def close(self) -> None:
        """What is being removed has a moment for it."""
        if self._purging:
            await asyncio.wait(self._purging, timeout=PURGE_PATIENCE)

    async def _purge(self, stream: str, which: dict[str, object]) -> None:
        try:
            await self.transport.api(f"STREAM.PURGE.{stream}", which)
        except TransportError as error:
            structlog.get_logger("millpond.worker").info("left for its age to remove", stream=stream, why=str(error))


class Conversation:
    """One attempt's. `tell` gives the handler a word; False: there is no handler (yet, or any more)."""

    def __init__(self, board: Switchboard, task: str, writer: Writer, tell: Callable[[Word], bool]) -> None:
        namespace, pool, _ = board.where
        self._board, self._tell = board, tell
        self._signals = subjects.signals(namespace, pool, task)
        self._checkpoints = Checkpoints(board.transport, subjects.checkpoint(namespace, pool, task), writer)
        self._mail: Mail | None = None
        self._purged = 0
        self._numbers = itertools.count(1)
        self._queries: dict[int, asyncio.Future[Replied | None]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}

    def said(self, word: Word) -> None:
        """The handler says something."""
        match word:
            case Asked():
                task = asyncio.create_task(self._answer(word))
                self._answering[word.number] = task
                task.add_done_callback(lambda _: self._answering.pop(word.number, None))
            case Replied():
                waiting = self._queries.get(word.number)
                if waiting and not waiting.done():
                    waiting.set_result(word)

    async def query(self, ask: QueryAsk) -> QueryAnswer:
        """What the handler answers, in time or not."""
        number = next(self._numbers)
        waiting: asyncio.Future[Replied | None] = asyncio.get_running_loop().create_future()
        self._queries[number] = waiting
        try:
            if not self._tell(Queried(number, ask.name, ask.args)):
                return QueryAnswer(ok=False, code=NOT_RUNNING, message="its handler has not begun, or has ended")
            async with asyncio.timeout(ask.timeout):
                return _read_reply(ask.name, await waiting)
        except TimeoutError:
            why = f"no answer to query {ask.name!r} within {ask.timeout:g} s: its event loop is blocked, or it is slow"
            return QueryAnswer(ok=False, code="QueryTimeout", message=why)
        finally:
            del self._queries[number]

    async def close(self) -> None:
        """The attempt is over."""
        for waiting in self._queries.values():
            if not waiting.done():
                waiting.set_result(None)
        for number, task in list(self._answering.items()):
            task.cancel()
            self._tell(Answered(number, error=TaskCancelled("this attempt at the task is over")))
        if self._mail:
            self._board.mails.discard(self._mail)
            await self._mail.close()

    async def _answer(self, asked: Asked) -> None:
        try:
            self._tell(Answered(asked.number, await self._do(asked)))
        except MillpondError as error:
            self._tell(Answered(asked.number, error=error))
        except TransportError as error:
            self._tell(Answered(asked.number, error=BrokerRefused(f"{asked.verb}: {error}")))

    async def _do(self, asked: Asked) -> object:
        """What the handler asks for."""
        match asked.verb, asked.body:
            case "signals", _:
                await self._open_mail()
            case "resume", _:
                return await self._checkpoints.resume()
            case "checkpoint", (parcel, taken):
                self._forget_signals(await self._checkpoints.write(parcel, taken))
            case "tell", (reason, message):
                return self._board.tell(reason, message, asyncio.get_running_loop().time())
            case "recycle", reason:
                self._board.recycle(str(reason))
        return None

    async def _open_mail(self) -> None:
        position = await self._checkpoints.position()
        mail = Mail(self._board.transport, self._signals, lambda sequence, note: self._tell(Arrived(sequence, note)))
        self._mail = mail
        self._board.mails.add(mail)
        await mail.open(position)

    def _forget_signals(self, position: Position) -> None:
        """What a stored checkpoint says is dealt with makes room for more."""
        if position.floor > self._purged:
            self._purged = position.floor
            self._board.purge(subjects.STREAM_SIGNALS, {"filter": self._signals, "seq": position.floor + 1})


def _read_reply(name: str, reply: Replied | None) -> QueryAnswer:
    if reply is None:
        return QueryAnswer(ok=False, code=NOT_RUNNING, message="its handler ended while it was asked")
    if reply.known is not None:
        known = f"it answers {', '.join(reply.known)}" if reply.known else "it answers none (yet)"
        return QueryAnswer(ok=False, code="UnknownQuery", message=f"the handler knows no query {name!r}: {known}")
    if reply.error is not None:
        return QueryAnswer(ok=False, code="QueryFailed", message=reply.error.message, error=reply.error)
    return QueryAnswer(parcel=reply.parcel)
