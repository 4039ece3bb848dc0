"""Runs handlers in child processes that can be killed: the worker's side of `isolation: process`.

Owns the pool of those children and what is said to them. A job checks one out and in; one that ends in the middle of a
handler (a crash, `os._exit`, the kernel out of memory) fails that one attempt, with what ended it, and the pool puts
another in its place: in a slot that the pod's supervisor gives free again, so that it counts the crash. Children are
forked from a server that has imported the app and runs no thread, so a new one takes milliseconds and the worker's own
threads are never forked.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from typing import Any

from millpond_api.supervision import BRUTAL, Child

from millpond.errors import WorkerProcessDied
from millpond.outcomes import Ended, make_ended
from millpond.pool import Pool, PoolClosed
from millpond.settings import Settings
from millpond.talking import Word
from millpond.worker import child
from millpond.worker.calling import Job
from millpond.worker.clients import OwnClient
from millpond.worker.handler_process import Death, HandlerProcess, make_parts
from millpond.worker.supervising import Kin, Supervision

WARM = 4
"""Children that are started with the worker; more as they are needed."""
STACK_TIME = 0.5
"""Seconds that a child has to write its stacks: faulthandler does it in C, even while a call holds the GIL."""
SERVER = "fork server"
JOIN_TIME = 5.0
"""Seconds that words under way have to get into a pipe whose child has ended its handler: it reads at once."""


class ProcessExecutor:
    """Handlers in children. All but `begun` (called in a thread) is the main loop's."""

    def __init__(
        self,
        settings: Settings,
        finish: Callable[[Job, Ended], None],
        begun: Callable[[Job], None],
        supervision: Supervision,
    ) -> None:
        self.settings, self._finish, self._begun, self._supervision = settings, finish, begun, supervision
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["millpond.worker.child", settings.app.partition(":")[0]])
        slots = settings.concurrency
        self._threads = ThreadPoolExecutor(2 * slots, thread_name_prefix="millpond-process")
        self._pool: Pool[HandlerProcess] = Pool(self._fill, slots, warm=min(WARM, slots))
        self._vacant: asyncio.Queue[str | None] = asyncio.Queue()
        """Slots in which the supervisor wants a process; None: no more."""
        self._server_lost = False
        self._serving: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Start the first children now; returns at once."""
        self._supervision.add(Kin(Child(SERVER, shutdown=BRUTAL), _Place(lambda: None, self.stop), "the fork server"))
        for number in range(1, self.settings.concurrency + 1):
            name = f"handler process {number}"
            place = _Place(partial(self._vacant.put_nowait, name), self.stop)
            self._supervision.add(Kin(Child(name, shutdown=BRUTAL), place, "handler processes"))
        self._pool.open()

    def start(self, job: Job) -> "_ProcessRun":
        run = _ProcessRun(job)
        task = run.task = asyncio.get_running_loop().create_task(self._serve(run))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return run

    async def stop(self) -> None:
        """Kill every child. Stopping twice is nothing."""
        for _ in range(self.settings.concurrency):
            self._vacant.put_nowait(None)
        await self._pool.close(timeout=0)

    async def _serve(self, run: "_ProcessRun") -> None:
        """Check a child out, run the handler in it, check it in."""
        try:
            found = await self._pool.checkout(timeout=None)
        except PoolClosed:
            return  # The worker ends: nobody waits for it.
        except asyncio.CancelledError as error:
            # Killed before it began.
            self._finish(run.job, make_ended(error))
            return
        run.task = None
        ended = await self._attend(run, found)
        self._pool.dismiss(found) if self._is_worn(found) else self._pool.checkin(found)
        self._finish(run.job, ended)
        if found.closed.done():
            # Now that the attempt has its end: if this was one crash too many, what still runs is given back.
            self._report(found)

    async def _attend(self, run: "_ProcessRun", found: HandlerProcess) -> Ended:
        found.task = run.job.envelope.id
        ended = await found.converse(partial(run.talk, found, self._begun))
        if ended is None:
            return make_ended(WorkerProcessDied((await found.ended()).describe()))
        found.task = ""
        found.tasks += 1
        return ended

    def _is_worn(self, found: HandlerProcess) -> bool:
        settings = self.settings
        worn = settings.process_tasks and found.tasks >= settings.process_tasks
        return bool(worn or (settings.process_recycle_memory and found.memory > settings.process_recycle_memory))

    async def _fill(self) -> HandlerProcess:
        """The pool's factory: a process in a slot in which the supervisor wants one."""
        slot = await self._vacant.get()
        if slot is None:
            raise PoolClosed("the worker ends")
        settings = self.settings
        client = OwnClient(settings.nats_url, settings.namespace)
        plan = partial(child.Plan, settings.app, client, settings.process_memory)
        loop = asyncio.get_running_loop()
        try:
            parts = await loop.run_in_executor(self._threads, make_parts, self._context, plan)
        except (OSError, EOFError) as error:
            self._supervision.crashed(slot, f"a handler's process could not be started: {error!r}")
            raise
        self._server_lost = False
        made = HandlerProcess(slot, parts, self._threads)
        made.closed.add_done_callback(lambda _: None if made.task else self._report(made))
        return made

    def _report(self, ended: HandlerProcess) -> None:
        """Whether the supervisor has to know: not of an end that we wanted, and of the server's once."""
        death = ended.closed.result()
        if death.wanted or death.orphaned:
            self._vacant.put_nowait(ended.slot)
        else:
            self._supervision.crashed(ended.slot, _blame(death, ended.task), ended.task)
        if death.orphaned and not self._server_lost:
            self._server_lost = True
            self._supervision.crashed(SERVER, "the server that handlers' processes are forked from has ended")


@dataclass(frozen=True)
class _Place:
    """The supervisor's ward where the pool starts the process: its start is the leave to do so.

    The server is started by the next child that is forked from it. The first slot that is told to end closes the pool,
    which would fill it again: the children are killed side by side.
    """

    vacate: Callable[[], None]
    close: Callable[[], Any]

    async def start(self) -> None:
        self.vacate()

    async def stop(self, within: float) -> None:
        await self.close()


class _ProcessRun:
    """One handler in a child."""

    killable = True
    _numbers = itertools.count(1)

    def __init__(self, job: Job) -> None:
        self.job, self.number = job, next(self._numbers)
        self.task: asyncio.Task[None] | None = None
        """While it waits for a child."""
        self._lock = threading.Lock()
        self._child: HandlerProcess | None = None
        self._writer: _Writer | None = None
        self._killed = self._cancelled = self._begun = False

    def talk(self, found: HandlerProcess, begun: Callable[[Job], None]) -> Ended | None:
        """In a thread: hand it over, relay what is said, until the handler has ended. None: the process has."""
        try:
            if not self._begin(found):
                return make_ended(asyncio.CancelledError("ended before it began"))
            while (ended := self._listen(found, begun)) is None:
                pass
            return ended
        except (EOFError, OSError):
            return None
        finally:
            with self._lock:
                self._child, writer, self._writer = None, self._writer, None
            if writer:
                # What it still writes must not run into the next order.
                writer.stop()

    def _begin(self, found: HandlerProcess) -> bool:
        job = self.job
        order = child.Order(self.number, job.envelope.encode(), job.wrap, job.body)
        with self._lock:
            if self._killed:
                return False
            self._child = found
            found.connection.send(("run", order))
            if self._cancelled:
                found.connection.send(("cancel", self.number))
        return True

    def _listen(self, found: HandlerProcess, begun: Callable[[Job], None]) -> Ended | None:
        wait([found.connection, found.process.sentinel])
        if not found.connection.poll():
            raise EOFError
        match found.connection.recv():
            case ("began", number) if number == self.number:
                self._begun = True
                begun(self.job)
            case ("progress", number, str(text)) if number == self.number:
                self.job.control.report(text)
            case ("word", number, word) if number == self.number:
                self.job.say(word)
            case ("ended", number, Ended() as ended, int(memory)) if number == self.number:
                found.memory = memory
                return ended
        return None

    def cancel(self) -> None:
        self._cancelled = True
        self._tell(("cancel", self.number))

    def interrupt(self, error: Exception) -> None:
        self._tell(("soft", self.number, str(error)))

    def kill(self) -> None:
        if self.task:
            self.task.cancel()
        with self._lock:
            self._killed = True
            if self._child:
                self._child.kill()

    async def settle(self) -> None:
        """The next one waits for the new child by itself."""

    def tell(self, word: Word) -> bool:
        """Written by a thread of its own: a child that holds its interpreter reads nothing, and words may be many."""
        with self._lock:
            if self._child is None or not self._begun:
                return False
            self._writer = self._writer or _Writer(self._child.connection)
            self._writer.put(("word", self.number, word))
            return True

    def where(self) -> str:
        """Asked in Python first, which knows coroutines; a child that holds its interpreter is asked in C."""
        with self._lock:
            found = self._child
            if found is None or found.process.pid is None:
                return ""
            with contextlib.suppress(OSError):
                os.ftruncate(found.stacks, 0)
                os.lseek(found.stacks, 0, os.SEEK_SET)
                self._send(found, ("where", self.number))
                if text := _read_growing(found.stacks):
                    return text
                os.kill(found.process.pid, signal.SIGUSR2)
                return _read_growing(found.stacks)
        return ""

    def _tell(self, message: tuple[Any, ...]) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._child:
                self._send(self._child, message)

    def _send(self, found: HandlerProcess, message: tuple[Any, ...]) -> None:
        """Under the lock; one thread at a time may write into the pipe."""
        self._writer.put(message) if self._writer else found.connection.send(message)


class _Writer:
    """A thread that writes into a child's pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="millpond-words", daemon=True)
        self._thread.start()

    def put(self, message: tuple[Any, ...]) -> None:
        self._messages.put(message)

    def stop(self) -> None:
        """Once everything is written, or the child is gone."""
        self._messages.put(None)
        self._thread.join(JOIN_TIME)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (message := self._messages.get()) is not None:
                self._connection.send(message)


def _blame(death: Death, task: str) -> str:
    """The crash as the supervisor tells it."""
    return death.describe(amid_task=bool(task)) + (f" ({task})" if task else "")


def _read_growing(number: int) -> str:
    """What is written to the file, once it has stopped growing."""
    until, size = time.monotonic() + STACK_TIME, -1
    while time.monotonic() < until:
        time.sleep(0.02)
        now = os.fstat(number).st_size
        if now and now == size:
            break
        size = now
    return os.pread(number, 16 * 1024, 0).decode(errors="replace")
