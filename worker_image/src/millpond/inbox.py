"""The signals of one attempt as its handler takes them: `ctx.signals`.

Owns the order and the count: each signal once, in the order in which they were stored, from whatever thread it comes
and on whatever thread it is taken. It must not do I/O: the worker brings signals (`put`) once the handler has first
looked (`open`). A waiter that is cancelled or runs out of time takes nothing with it.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any

from millpond_api.messages import Position, SignalNote

from millpond.errors import SignalTimeout
from millpond.parcels import Parcels
from millpond.pending import Pending, refuse_in_a_loop, slices


class Signal:
    """One message to the task: what `handle.signal(name, payload)` sent."""

    __slots__ = ("_note", "_parcels", "sequence")

    def __init__(self, sequence: int, note: SignalNote, parcels: Parcels) -> None:
        self.sequence, self._note, self._parcels = sequence, note, parcels
        """`sequence` orders all signals of a task; it has gaps."""

    @property
    def name(self) -> str:
        return self._note.name

    @property
    def id(self) -> str:
        """The sender's: a signal that was sent twice under one id is one."""
        return self._note.id

    @property
    def at(self) -> datetime:
        """When it was sent, by the sender's clock."""
        return self._note.at

    @property
    def payload(self) -> Any:
        """What was sent; opened here, where it is read, so CodecRefused and ValueError are the handler's to catch."""
        return self._parcels.open(self._note.parcel)

    def __repr__(self) -> str:
        return f"Signal({self.name!r}, sequence={self.sequence})"


class Signals:
    """Signals to this task, oldest first.

        async for signal in ctx.signals: ...                 # for ever; a plain function: for signal in ctx.signals
        signal = await ctx.signals.get("approve", timeout=60)
        signal = ctx.signals.wait("approve", timeout=60)     # in a plain function

    `get` and `wait` with a name take the oldest of that name and leave the others for later.
    """

    def __init__(self, ask: "Callable[[], concurrent.futures.Future[Any]]", is_over: Callable[[], bool]) -> None:
        self._ask, self._is_over = ask, is_over
        self._opened: concurrent.futures.Future[Any] | None = None
        self._more = threading.Condition()
        self._waiting: list[Signal] = []
        self._taken: set[int] = set()
        """Taken while older ones were left."""
        self._last = 0
        self._wake: set[Callable[[], None]] = set()

    def put(self, signal: Signal) -> None:
        """One more has come; they come in order."""
        with self._more:
            self._waiting.append(signal)
            self._last = signal.sequence
            self._more.notify_all()
            wake = tuple(self._wake)
        for one in wake:
            one()

    def position(self) -> Position:
        """How far this attempt has taken them."""
        with self._more:
            floor = self._waiting[0].sequence - 1 if self._waiting else self._last
            return Position(floor=floor, taken=tuple(sorted(one for one in self._taken if one > floor)))

    async def get(self, name: str | None = None, timeout: float | None = None) -> Signal:
        """The oldest signal (of that name), once there is one; SignalTimeout after `timeout` seconds without."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(news.set)

        within = asyncio.timeout(timeout)
        try:
            async with within:
                await Pending(self._open())
                with self._more:
                    self._wake.add(wake)
                while (found := self._take(name)) is None:
                    await news.wait()
                    news.clear()
                return found
        except TimeoutError:
            # Of the handler's own soft timeout, or of ours.
            if not within.expired():
                raise
            raise _late(name, timeout) from None
        finally:
            with self._more:
                self._wake.discard(wake)

    def wait(self, name: str | None = None, timeout: float | None = None) -> Signal:
        """The same for a plain function: it blocks its thread. TaskCancelled when the attempt is to end."""
        refuse_in_a_loop("await ctx.signals.get(…)")
        Pending(self._open(), self._is_over).result()
        for left in slices(timeout, self._is_over):
            with self._more:
                if (found := self._take(name)) is not None:
                    return found
                self._more.wait(left)
        found = self._take(name)
        if found is None:
            raise _late(name, timeout)
        return found

    def __aiter__(self) -> AsyncIterator[Signal]:
        return self

    async def __anext__(self) -> Signal:
        return await self.get()

    def __iter__(self) -> Iterator[Signal]:
        return self

    def __next__(self) -> Signal:
        return self.wait()

    def _open(self) -> "concurrent.futures.Future[Any]":
        with self._more:
            if self._opened is None:
                self._opened = self._ask()
            return self._opened

    def _take(self, name: str | None) -> Signal | None:
        with self._more:
            waiting = self._waiting
            place = next((n for n, one in enumerate(waiting) if name is None or one.name == name), None)
            if place is None:
                return None
            found = waiting.pop(place)
            if place:
                self._taken.add(found.sequence)
            return found


def _late(name: str | None, timeout: float | None) -> SignalTimeout:
    which = f"signal {name!r}" if name else "signal"
    return SignalTimeout(f"no {which} has come within {timeout or 0:g} s: it may still come, ask again")
