"""A keyed work queue: each key is worked on by one worker at a time, and however often it is added, once.

Owns order, de-duplication, delays and retries with backoff (1, 2, 4 … 10 s); it knows nothing about what a key means.
A key that is added while it is worked on is worked on again afterwards, so no change is missed. Survives any failure
of the work: it is logged and tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)

FIRST_RETRY = 1.0
LAST_RETRY = 10.0


class WorkQueue(Generic[Key]):
    """`add` keys from anywhere in the loop; `run` works them off until it is cancelled."""

    def __init__(self, name: str, work: Callable[[Key], Awaitable[None]], concurrency: int = 8) -> None:
        self.name = name
        self._work = work
        self._concurrency = concurrency
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._queued) + len(self._working)

    @property
    def waiting(self) -> int:
        """Keys that are due now or at a later time."""
        return len(self._queued) + len(self._timers)

    def add(self, key: Key) -> None:
        """Work on the key as soon as a worker is free."""
        self._cancel_timer(key)
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, delay: float) -> None:
        """Work on the key in `delay` seconds, unless it is already due earlier."""
        if key in self._queued:
            return
        loop = asyncio.get_running_loop()
        known = self._timers.get(key)
        if known is not None and known.when() <= loop.time() + delay:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(delay, self.add, key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._working.add(key)
            try:
                await self._work(key)
                self._failures.pop(key, None)
            except Exception as error:  # whatever the work meets, the key is tried again and the queue lives on
                self._retry(key, error)
            finally:
                self._working.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def _retry(self, key: Key, error: Exception) -> None:
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = min(FIRST_RETRY * 2.0 ** min(count, 10), LAST_RETRY)
        log.warning("work failed; it is tried again", queue=self.name, key=str(key), error=repr(error), delay=delay)
        self.add_after(key, delay)

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
