"""Runs handlers on threads, one each: plain functions, and async handlers that want a loop of their own.

Owns those threads. A function can be interrupted between two of its bytecodes (`PyThreadState_SetAsyncExc`): a call
into C that does not come back (a sleep, a lock, a socket without a timeout) hears of it when it returns. A thread
cannot be killed: its slot is given to a new one, it is counted as lost, and what it returns later reaches nobody.
"""

import asyncio
import ctypes
import queue
import threading
from collections.abc import Callable

import uvloop

from millpond.errors import SoftTimeout
from millpond.outcomes import Ended, make_ended
from millpond.talking import Word
from millpond.worker.calling import Driver, Job, call_async, call_plain
from millpond.worker.clients import OwnClient
from millpond.worker.stacks import coroutine_stack, thread_stack


class ThreadExecutor:
    """Handlers on threads, which are made when first needed. The worker's slots bound how many run at once."""

    def __init__(self, finish: Callable[[Job, Ended], None], lost: Callable[[Job], None], client: OwnClient) -> None:
        self._finish, self.lost, self._client = finish, lost, client
        self._runs: queue.SimpleQueue[_ThreadRun] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._made = 0

    def start(self, job: Job) -> "_ThreadRun":
        if not self._idle.acquire(blocking=False):
            name = f"millpond-handler-{self._made}"
            self._made += 1
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        run = _ThreadRun(self, job)
        self._runs.put(run)
        return run

    def _serve(self) -> None:
        """One thread's life: it ends with a handler that was given up."""
        while True:
            run = self._runs.get()
            ended = run.serve(self._client)
            if run.given_up:
                return
            # Before the main loop hears of it: it may send the next one at once.
            self._idle.release()
            self._finish(run.job, ended)


class _ThreadRun:
    """One handler on a thread."""

    killable = False

    def __init__(self, executor: ThreadExecutor, job: Job) -> None:
        self._executor, self.job = executor, job
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._driver = Driver()
        self._cancelled = self._over = False
        self.given_up = False

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._loop:
                self._loop.call_soon_threadsafe(self._cancel_task)

    def interrupt(self, error: Exception) -> None:
        with self._lock:
            if self._over or self._thread is None:
                return
            if self._loop:
                self._loop.call_soon_threadsafe(self._driver.interrupt, error)
            else:
                # The class, not the error: CPython makes the instance in the other thread.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(_sayer(str(error)))
                )

    def kill(self) -> None:
        self.cancel()
        with self._lock:
            if self._over or self.given_up:
                return
            self.given_up = True
        self._executor.lost(self.job)

    async def settle(self) -> None:
        """Its thread has been replaced already."""

    def tell(self, word: Word) -> bool:
        self.job.context.hear(word)
        return True

    def where(self) -> str:
        task = self._driver.task
        return coroutine_stack(task.get_coro(), self._thread or 0) if task else thread_stack(self._thread)

    def serve(self, client: OwnClient) -> Ended:
        """On the thread."""
        self._thread = threading.get_ident()
        ended: Ended | None = None
        try:
            ended = self._call(client)
        except SoftTimeout as late:
            # Raised between the handler's last step and ours.
            ended = ended or make_ended(late)
        self._leave()
        return ended

    def _call(self, client: OwnClient) -> Ended:
        if not self.job.handler.is_async:
            return call_plain(self.job)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                return runner.run(self._run_async(client))
            except asyncio.CancelledError as error:
                return make_ended(error)

    async def _run_async(self, client: OwnClient) -> Ended:
        self._driver.task = asyncio.current_task()
        with self._lock:
            self._loop = asyncio.get_running_loop()
        try:
            if self._cancelled:
                return make_ended(asyncio.CancelledError("cancelled before it started"))
            async with client.opened() as connect:
                self.job.context._connect = connect
                return await call_async(self.job, self._driver)
        finally:
            with self._lock:
                self._loop = None

    def _leave(self) -> None:
        """From here on nothing of this run's may be raised in this thread."""
        while not self._over:
            try:
                with self._lock:
                    self._over = True
                    # None takes back what is still pending.
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), None)
            except SoftTimeout:
                continue

    def _cancel_task(self) -> None:
        if self._driver.task:
            self._driver.task.cancel()


def _sayer(text: str) -> type[SoftTimeout]:
    """SoftTimeout with this text: CPython raises a class in another thread, without arguments."""

    def __init__(self: SoftTimeout) -> None:
        TimeoutError.__init__(self, text)

    return type("SoftTimeout", (SoftTimeout,), {"__init__": __init__, "__module__": SoftTimeout.__module__})
