"""Reads a task's signals for the one attempt that runs it: those that are stored, then each as it comes.

Owns the order and that none is missed: a signal that is pushed follows the last one read (the server names the one
before it), or else the stream is read. It must not remove any. It survives a lost connection and lost pushes: it reads
again after a reconnect, and now and then.
"""

import asyncio
import random
from collections.abc import Callable

import pydantic
import structlog
from millpond_api import subjects
from millpond_api.messages import Position, SignalNote

from millpond.pausing import happens
from millpond.transport import Message, Subscription, Transport, TransportError

BACKSTOP = (5.0, 10.0)
"""Seconds between readings that nothing asked for."""


class Mail:
    """`push(sequence, note)` gets each signal once, in order, on the main loop."""

    def __init__(self, transport: Transport, subject: str, push: Callable[[int, SignalNote], object]) -> None:
        self._transport, self._subject, self._push = transport, subject, push
        self.news = asyncio.Event()
        """Set it when there may be more than was heard."""
        self._position = Position()
        self._last: int | None = None
        self._subscription: Subscription | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self, position: Position) -> None:
        """Begin after what was taken before; returns when everything that is stored has been pushed."""
        self._position = position
        self._subscription = await self._transport.listen(subjects.signalled(self._subject), self._on_push)
        await self._read(position.floor)
        self._reading = asyncio.create_task(self._read_on())

    async def close(self) -> None:
        if self._reading:
            self._reading.cancel()
        if self._subscription:
            await self._subscription.close()

    def _on_push(self, message: Message) -> None:
        """One was stored. `Nats-Last-Sequence` is that of the one before it on this subject, 0: none is left there."""
        sequence, before = int(message.headers["Nats-Sequence"]), int(message.headers["Nats-Last-Sequence"])
        if self._last is not None and before in (0, self._last) and sequence > self._last:
            self._take(sequence, message.body)
        else:
            self.news.set()

    async def _read(self, after: int) -> None:
        self._last = after if self._last is None else self._last
        stored = self._transport.read_range(subjects.STREAM_SIGNALS, self._subject, after=self._last)
        async for one in stored:
            # Meanwhile it may have been pushed.
            if one.sequence > self._last:
                self._take(one.sequence, one.body)

    async def _read_on(self) -> None:
        while True:
            await happens(self.news, random.uniform(*BACKSTOP))
            self.news.clear()
            try:
                await self._read(0)
            except TransportError as error:
                structlog.get_logger("millpond.worker").warning("signals could not be read; again soon", why=str(error))

    def _take(self, sequence: int, body: bytes) -> None:
        self._last = sequence
        if self._position.has(sequence):
            return
        try:
            note = SignalNote.decode(body)
        except pydantic.ValidationError as error:
            structlog.get_logger("millpond.worker").warning("a signal cannot be read; it is skipped", why=str(error))
            return
        self._push(sequence, note)
