"""Many tasks at once: map over an iterable, gather results, take them as they end.

Owns the order of results and the bound on what is under way. It must not read the caller's iterable by itself: the
caller hands over items in his own thread, so that the synchronous client may share this (a Django queryset belongs to
the thread that reads it). It survives a full queue: what does not fit waits here until something has ended.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from millpond.errors import QueueFull
from millpond.handle import TaskHandle
from millpond.submission import BATCH_TASKS, Options

if TYPE_CHECKING:
    from millpond.client import Client

IN_FLIGHT = 200
"""Tasks of one `map` that are submitted and whose results have not been taken yet."""


class Window:
    """The tasks of one `map` that are under way. Not for two callers at once.

    `while True: take window.wanted items, window.add(them), stop when window.waiting is 0, window.next()`.
    """

    def __init__(self, client: "Client", call: tuple[str, str], options: Options, in_flight: int) -> None:
        if in_flight < 1:
            raise ValueError(f"in_flight={in_flight}: at least one task must be under way to have a result")
        self._client, self._call, self._options, self._most = client, call, options, in_flight
        self._waiting: deque[asyncio.Task[Any]] = deque()
        self._held: list[Any] = []
        self._batch = in_flight
        self._room_at = in_flight
        """How few may be under way before a queue that was full is asked again."""

    @property
    def wanted(self) -> int:
        """How many more items it takes now: half the window at once, so that they go as batches."""
        free = self._most - len(self._waiting) - len(self._held)
        return free if free * 2 >= self._most else 0

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._held)

    @property
    def _under_way(self) -> int:
        return sum(not future.done() for future in self._waiting)

    async def add(self, items: Iterable[Any]) -> None:
        """Submit one task for each item; what a full queue does not take is kept for later."""
        self._held += items
        if self._waiting and self._under_way > self._room_at:
            return
        pool, handler = self._call
        while self._held:
            batch = self._held[: min(self._batch, BATCH_TASKS)]
            try:
                handles = await self._client.submit_many(pool, handler, [[item] for item in batch], **self._options)
            except QueueFull:
                if not self._shrink(len(batch)):
                    raise
                if self._waiting:
                    return
                continue
            del self._held[: len(batch)]
            self._batch = min(2 * self._batch, self._most)
            self._waiting += [asyncio.ensure_future(handle.result()) for handle in handles]
        self._room_at = self._most

    def _shrink(self, refused: int) -> bool:
        """The queue had no room for so many, and a batch goes whole or not at all; False: nothing that we could do.

        The next batch is smaller, and waits until that many of our own tasks have ended, at most the half of them, so
        that the workers do not run dry: a refused batch costs the broker as much as one that it takes.
        """
        under_way = self._under_way
        self._batch = max(1, min(refused, under_way or refused) // 2)
        # A single one is asked for after each result: it costs little, and the room of the last may just be coming.
        self._room_at = max(0, under_way - self._batch) if self._batch > 1 else under_way
        return refused > 1 or bool(self._waiting)

    async def next(self) -> Any:
        """The result of the first item whose result has not been taken, or the error that it ended with."""
        first = self._waiting.popleft()
        try:
            result = await first
        finally:
            # The caller gave up while it waited: its future is nobody's.
            first.cancel()
        if self._held:
            await self.add(())
        return result

    def close(self) -> None:
        """Wait for nothing any more; the tasks themselves go on."""
        for future in self._waiting:
            future.cancel()
            future.add_done_callback(_read)
        self._waiting.clear()


def _read(future: "asyncio.Future[Any]") -> None:
    """Nobody waits for it: asyncio must not complain that its error was never read."""
    if not future.cancelled():
        future.exception()


async def map_results(window: Window, items: Iterable[Any]) -> AsyncIterator[Any]:
    """The results of `items` in their order; an item is read only when the window has room for it."""
    ahead = iter(items)
    try:
        while True:
            if window.wanted:
                await window.add(list(islice(ahead, window.wanted)))
            if not window.waiting:
                return
            yield await window.next()
    finally:
        window.close()


async def gather(*handles: TaskHandle, timeout: float | None = None, return_exceptions: bool = False) -> list[Any]:
    """The results of the tasks in the order of the handles.

    Raises what the first one that fails raises, while the others go on (as `asyncio.gather`); with `return_exceptions`
    errors stand among the results. `timeout` (seconds) is for each of them, all at once: ResultTimeout.
    """
    waiting = [asyncio.ensure_future(handle.result(timeout)) for handle in handles]
    try:
        return await asyncio.gather(*waiting, return_exceptions=return_exceptions)
    finally:
        for one in waiting:
            one.cancel()
            one.add_done_callback(_read)


async def as_completed(handles: Sequence[TaskHandle], *, timeout: float | None = None) -> AsyncIterator[TaskHandle]:
    """The handles in the order in which their tasks end, however they end: `result()` then answers at once.

    ResultTimeout when the next one has not ended within `timeout` seconds of the call.
    """

    async def wait(handle: TaskHandle) -> TaskHandle:
        await handle.wait(timeout)
        return handle

    waiting: set[asyncio.Task[TaskHandle]] = {asyncio.create_task(wait(handle)) for handle in handles}
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                yield one.result()
    finally:
        for one in waiting:
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting, return_exceptions=True)
