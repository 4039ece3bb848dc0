"""Runs async handlers in one event loop, on a thread of its own.

Owns that loop. A handler may block it: the main loop and the lease keeper go on beside it. When a handler's time is
over and the loop does not answer, the loop is abandoned with everything on it and a new one takes what comes next;
what ends on the old one later still counts, if nobody has given it up.
"""

import asyncio
import threading
from collections.abc import Callable

from millpond.outcomes import Ended, make_ended
from millpond.pausing import happens
from millpond.talking import Word
from millpond.worker.calling import Driver, Job, call_async
from millpond.worker.hosts import Host, Place
from millpond.worker.stacks import coroutine_stack, thread_stack

ABANDON_AFTER = 1.0
"""Seconds that a loop may take to hear that a handler on it is to end: one that is not blocked hears at once."""


class InlineExecutor:
    """Async handlers. `finish` posts to the main loop; `lost` hears that a loop was abandoned (main loop)."""

    def __init__(self, place: Place, finish: Callable[[Job, Ended], None], lost: Callable[[], None]) -> None:
        self._place, self.finish, self._lost = place, finish, lost
        self._made = 0
        self._host: Host | None = None

    def start(self, job: Job) -> "_InlineRun":
        if self._host is None:
            self._host = self._place.make_host(f"millpond-async-handlers-{self._made}")
            self._host.start()
            self._made += 1
        return _InlineRun(self, self._host, job)

    async def stop(self) -> None:
        """End the loop, without waiting for what blocks it."""
        if self._host:
            await self._host.join(0)

    def give_up(self, host: Host) -> None:
        """The loop does not answer: whatever comes next runs in another one."""
        if self._host is host:
            self._host = None
            self._lost()


class _InlineRun:
    """One handler on the loop."""

    __slots__ = ("_cancelled", "_driver", "_executor", "_host", "_ident", "_job", "_task")
    killable = False

    def __init__(self, executor: InlineExecutor, host: Host, job: Job) -> None:
        self._executor, self._host, self._job = executor, host, job
        self._task: asyncio.Task[None] | None = None
        self._driver = Driver() if job.limits.soft else None
        self._cancelled, self._ident = False, 0
        host.post(self._begin)

    def cancel(self) -> None:
        self._cancelled = True
        self._host.post(self._cancel)

    def interrupt(self, error: Exception) -> None:
        driver = self._driver
        if driver:
            self._host.post(lambda: driver.interrupt(error))

    def kill(self) -> None:
        self.cancel()

    async def settle(self) -> None:
        loop, answered = asyncio.get_running_loop(), asyncio.Event()

        def answer() -> None:
            loop.call_soon_threadsafe(answered.set)

        self._host.post(answer)
        if not await happens(answered, ABANDON_AFTER):
            self._executor.give_up(self._host)

    def tell(self, word: Word) -> bool:
        self._job.context.hear(word)
        return True

    def where(self) -> str:
        return coroutine_stack(self._task.get_coro(), self._ident) if self._task else thread_stack(self._ident)

    def _begin(self) -> None:
        job, self._ident = self._job, threading.get_ident()
        name = f"{job.handler.name} {job.envelope.id}"
        self._task = asyncio.get_running_loop().create_task(self._run(), name=name)
        if self._driver:
            self._driver.task = self._task
        if self._cancelled:
            self._task.cancel()
        # A task that is cancelled before its first step never enters `_run`.
        self._task.add_done_callback(self._on_done)

    async def _run(self) -> None:
        self._executor.finish(self._job, await call_async(self._job, self._driver))

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            self._executor.finish(self._job, make_ended(asyncio.CancelledError("cancelled before it started")))

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()
