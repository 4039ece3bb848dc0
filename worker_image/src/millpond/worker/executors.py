"""Runs handlers away from the main loop: async ones in an event loop on a thread, plain ones on a thread each.

Owns those threads and the way in and out of them. User code may block, spin or never return here: the main loop and
the lease keeper go on beside it. A plain function cannot be stopped; it is abandoned (its thread is a daemon), and
what it returns later reaches nobody.
"""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millpond.context import Context, Control
from millpond.errors import BadArguments
from millpond.outcomes import Ended, make_ended
from millpond.packing import Packed, Wrap, open_arguments, pack_result
from millpond.registry import Handler
from millpond.worker.hosts import THREADS, Mailbox, Place

if TYPE_CHECKING:
    from millpond.client import Client


@dataclass(eq=False)
class Job:
    """One call of a handler. `done` is called once, in the main loop."""

    handler: Handler
    context: Context
    control: Control
    payload: tuple[Wrap, bytes]
    """How the message's body is wrapped, and the body: opened where the handler runs, it may be large."""
    done: Callable[[Ended], None]
    task: "asyncio.Task[None] | None" = None
    cancelled: bool = False


class Executors:
    """Both kinds of executors; `start` is called in the main loop, whose thread gets the results."""

    def __init__(self, threads: int, connect: Callable[[], Awaitable["Client"]], place: Place = THREADS) -> None:
        self._threads, self._place = threads, place
        self.connect = connect
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._host = place.make_host("millpond-async-handlers")
        self._outbox: Mailbox | None = None
        self._workers: list[threading.Thread] = []
        self._idle_threads = threading.Semaphore(0)

    def start(self) -> None:
        self._outbox = Mailbox(asyncio.get_running_loop())
        self._host.start()

    async def stop(self) -> None:
        """End the loop of async handlers, without waiting for what blocks it."""
        await self._host.join(0)

    def submit(self, job: Job) -> None:
        """Run it; `job.done` hears how it ended."""
        if job.handler.is_async:
            self._host.post(lambda: self._start_task(job))
            return
        self._place.outside(+1)
        # Threads are made when first needed: a worker of async handlers has none. An abandoned function keeps its
        # slot occupied, so there are never more jobs than slots.
        if len(self._workers) < self._threads and not self._idle_threads.acquire(blocking=False):
            name = f"millpond-handler-{len(self._workers)}"
            thread = threading.Thread(target=self._run_thread, name=name, daemon=True)
            self._workers.append(thread)
            thread.start()
        self._jobs.put(job)

    def cancel(self, job: Job) -> None:
        """Ask it to stop: an async handler by CancelledError, a plain one by its context only."""
        job.cancelled = True
        if job.handler.is_async:
            self._host.post(lambda: self._cancel_task(job))

    def _start_task(self, job: Job) -> None:
        name = f"{job.handler.name} {job.context.task_id}"
        job.task = asyncio.get_running_loop().create_task(self._run_async(job), name=name)
        if job.cancelled:
            job.task.cancel()
        # A task that is cancelled before its first step never enters `_run_async`.
        job.task.add_done_callback(lambda task: self._finish(job, _cancelled()) if task.cancelled() else None)

    def _cancel_task(self, job: Job) -> None:
        if job.task:
            job.task.cancel()

    async def _run_async(self, job: Job) -> None:
        try:
            self._finish(job, Ended(result=await self._call_async(job)))
        # The function is the user's: whatever it raises, SystemExit too, is how this attempt ended, nothing more.
        except BaseException as error:
            self._finish(job, make_ended(error))

    async def _call_async(self, job: Job) -> Packed:
        awaitable = _call(job)
        timeout = job.handler.timeout
        if timeout is None:
            return pack_result(job.payload[0], await awaitable)
        try:
            async with asyncio.timeout(timeout) as limit:
                result = await awaitable
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"the handler ran longer than its timeout of {timeout:g} s") from error
            raise
        return pack_result(job.payload[0], result)

    def _run_thread(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                ended = Ended(result=pack_result(job.payload[0], _call(job)))
            # As above: a thread must survive whatever its handler raises.
            except BaseException as error:
                ended = make_ended(error)
            self._idle_threads.release()
            self._finish(job, ended)

    def _finish(self, job: Job, ended: Ended) -> None:
        assert self._outbox is not None
        self._outbox.post(lambda: self._tell(job, ended))

    def _tell(self, job: Job, ended: Ended) -> None:
        """In the main loop."""
        if not job.handler.is_async:
            self._place.outside(-1)
        job.done(ended)


def _call(job: Job) -> Any:
    """Call the handler with the message's arguments."""
    arguments = open_arguments(*job.payload)
    args = [job.context, *arguments.args] if job.handler.wants_context else arguments.args
    try:
        return job.handler.function(*args, **arguments.kwargs)
    except TypeError as error:
        # Raised by the call itself, not inside the function: no attempt with these arguments can ever succeed.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise BadArguments(f"handler {job.handler.name!r} cannot be called with these arguments: {error}") from None
        raise


def _cancelled() -> Ended:
    return make_ended(asyncio.CancelledError("cancelled before it started"))
