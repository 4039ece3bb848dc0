"""Virtual time: a clock that stands still while there is something to do and jumps to the next timer when there is not.

Owns the time of one event loop (asyncio's own) and of `utc_now` in it: whatever waits there (`asyncio.sleep`, timeouts,
backoffs, leases, schedules of the in-memory broker) waits in virtual time. The loop is the seam because everything that
waits in asyncio waits through it; a clock handed to every function would miss the user's own `asyncio.sleep`.

Work outside of the loop makes time flow as it really does, so that nothing is jumped over that a thread will still say:
plain handlers, `asyncio.to_thread` and `run_in_executor`. Where the loop also watches sockets, each jump waits
`GRACE` for them. The idea of a clock that jumps when all wait is Trio's (`trio.testing.MockClock`, autojump).
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from millpond_api import events

GRACE = 0.01
"""Real seconds that a socket has to speak before time jumps."""


class NoVirtualTime(RuntimeError):
    """The loop that runs cannot have a clock of its own."""


class Clock:
    """`with Clock() as clock:` in the loop that runs. Its time goes on from the loop's own."""

    def __init__(self, start: datetime | None = None) -> None:
        self._began = start or datetime.now(UTC)
        self._first = self._now = 0.0
        self._outside = 0
        self._loop: Any = None
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        loop: Any = asyncio.get_running_loop()
        if not hasattr(loop, "_selector") or getattr(loop, "millpond_clock", None) is not None:
            raise NoVirtualTime(
                f"{type(loop).__name__} cannot have virtual time (twice): run the test in asyncio's own event loop, "
                "with one Pool or Clock at a time"
            )
        self._loop = loop
        self._first = self._now = loop.time()
        selector, run_in_executor = loop._selector, loop.run_in_executor
        loop._selector = _Selector(selector, self)
        loop.time = self.time
        loop.millpond_clock = self
        loop.run_in_executor = self._watched(run_in_executor)
        _CLOCKS.append(self)
        events.set_clock(_read)
        self._undo = [lambda: setattr(loop, "_selector", selector), lambda: delattr(loop, "run_in_executor")]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for undo in self._undo:
            undo()
        del self._loop.millpond_clock
        _CLOCKS.remove(self)
        if not _CLOCKS:
            events.set_clock(None)
        # The loop's clock must not go back: timers that are left count on from here.
        ahead = self._now - time.monotonic()
        self._loop.time = lambda: time.monotonic() + ahead

    def time(self) -> float:
        """Seconds, as `loop.time()`."""
        return self._now

    def now(self) -> datetime:
        """The moment in UTC."""
        return self._began + timedelta(seconds=self._now - self._first)

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the clock began."""
        return self._now - self._first

    async def advance(self, seconds: float) -> None:
        """Until that much time has passed; whatever is due meanwhile happens, in its order."""
        until = self._now + seconds
        while self._now < until:
            if not self._outside:
                await asyncio.sleep(until - self._now)
                continue
            # A thread is at work and time flows: step over the rest at once.
            await asyncio.sleep(0)
            self._now = min(until, self._next_timer())
        # Timers that are due at this very moment run before the caller goes on.
        for _ in range(3):
            await asyncio.sleep(0)

    def outside(self, change: int) -> None:
        """Work begins (+1) or ends (-1) that the loop does not see."""
        self._outside += change

    @property
    def flows(self) -> bool:
        return self._outside > 0

    def pass_time(self, seconds: float) -> None:
        self._now += seconds

    def _next_timer(self) -> float:
        timers = [handle.when() for handle in self._loop._scheduled if not handle.cancelled()]
        return max(self._now, min(timers, default=float("inf")))

    def _watched(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def run_in_executor(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
            self.outside(+1)
            future = run(executor, function, *args)
            future.add_done_callback(lambda _: self.outside(-1))
            return future

        return run_in_executor


class _Selector:
    """The loop's selector, which waits in virtual time."""

    def __init__(self, inner: Any, clock: Clock) -> None:
        self._inner, self._clock = inner, clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return self._inner.select(0)
        if self._clock.flows:
            return self._wait(timeout)
        # One entry is the loop's own: the pipe by which threads wake it.
        found = self._inner.select(0) if len(self._inner.get_map()) <= 1 else self._wait(min(timeout or GRACE, GRACE))
        if found or timeout is None:
            return found or self._inner.select(None)
        self._clock.pass_time(timeout)
        return []

    def _wait(self, timeout: float | None) -> Any:
        """Really, and time goes on by as much."""
        began = time.monotonic()
        found = self._inner.select(timeout)
        self._clock.pass_time(time.monotonic() - began)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


_CLOCKS: list[Clock] = []


def _read() -> datetime:
    """Now, for whoever asks: the clock of the loop that runs; in a thread without a loop, that of the test."""
    loop: Any = asyncio._get_running_loop()
    clock: Clock | None = _CLOCKS[-1] if loop is None and _CLOCKS else getattr(loop, "millpond_clock", None)
    return clock.now() if clock is not None else datetime.now(UTC)
