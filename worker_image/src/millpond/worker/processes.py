"""Runs handlers in child processes that can be killed: the worker's side of `isolation: process`.

Owns the children, one for each slot that needs one, and a thread for each that waits for it. A child that ends in the
middle of a handler (a crash, `os._exit`, the kernel out of memory) fails that one attempt, with what ended it, and is
replaced. Children are forked from a server that has imported the app and runs no thread, so a new one takes
milliseconds and the worker's own threads are never forked.
"""

import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

import structlog

from millpond.errors import WorkerProcessDied
from millpond.outcomes import Ended, make_ended
from millpond.settings import Settings
from millpond.worker import child
from millpond.worker.calling import Job
from millpond.worker.clients import OwnClient

WARM = 4
"""Children that are started with the worker; more as they are needed."""
STACK_TIME = 0.5
"""Seconds that a child has to write its stacks: faulthandler does it in C, even while a call holds the GIL."""
JOIN_TIME = 5.0


@dataclass
class _Child:
    """A running child and what it has done."""

    process: ForkServerProcess
    connection: Connection
    stacks: int
    tasks: int = 0
    memory: int = 0

    def close(self) -> None:
        self.connection.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join(JOIN_TIME)
        os.close(self.stacks)


class ProcessExecutor:
    """Handlers in children. `finish` posts to the main loop."""

    def __init__(self, settings: Settings, finish: Callable[[Job, Ended], None], begun: Callable[[Job], None]) -> None:
        self.settings, self._finish, self.begun = settings, finish, begun
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["millpond.worker.child", settings.app.partition(":")[0]])
        self._runs: queue.SimpleQueue[_ProcessRun | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._slots: list[_Slot] = []

    def warm(self) -> None:
        """Start the first children now; returns at once."""
        for _ in range(min(WARM, self.settings.concurrency)):
            self._add_slot()
            self._idle.release()

    def start(self, job: Job) -> "_ProcessRun":
        if not self._idle.acquire(blocking=False):
            self._add_slot()
        run = _ProcessRun(job)
        self._runs.put(run)
        return run

    def stop(self) -> None:
        """Kill every child."""
        for slot in self._slots:
            self._runs.put(None)
            slot.stop()

    def _add_slot(self) -> None:
        slot = _Slot(self)
        self._slots.append(slot)
        name = f"millpond-process-{len(self._slots)}"
        threading.Thread(target=slot.serve, args=(self._runs, self._done), name=name, daemon=True).start()

    def _done(self, run: "_ProcessRun", ended: Ended) -> None:
        self._idle.release()
        self._finish(run.job, ended)

    def spawn(self) -> _Child:
        """A new child; blocks for milliseconds, the first time until the server has imported the app."""
        ours, theirs = self._context.Pipe()
        stacks = os.memfd_create("millpond-stacks")
        client = OwnClient(self.settings.nats_url, self.settings.namespace)
        plan = child.Plan(self.settings.app, client, self.settings.process_memory, child.InheritedFd(stacks))
        process = self._context.Process(target=child.serve, args=(theirs, plan), name="millpond-handler")
        process.start()
        theirs.close()
        return _Child(process, ours, stacks)


class _Slot:
    """A thread with a child of its own."""

    def __init__(self, executor: ProcessExecutor) -> None:
        self._executor = executor
        self._child: _Child | None = None
        self._stopped = False

    def serve(
        self, runs: "queue.SimpleQueue[_ProcessRun | None]", done: "Callable[[_ProcessRun, Ended], None]"
    ) -> None:
        """The thread: a child is there before it is needed, again after each that has ended."""
        while not self._stopped:
            try:
                self._child = self._child or self._executor.spawn()
            except (OSError, EOFError) as error:
                structlog.get_logger("millpond.worker").error(
                    "a handler's process could not be started", why=str(error)
                )
            run = runs.get()
            if run is None:
                break
            done(run, self._attend(run))
        self.stop()

    def stop(self) -> None:
        self._stopped = True
        found, self._child = self._child, None
        if found:
            found.close()

    def _attend(self, run: "_ProcessRun") -> Ended:
        """Send it, relay what it says, until it has ended one way or the other."""
        found = self._child
        if found is None:
            return make_ended(
                WorkerProcessDied("the handler's process could not be started; the worker's log says why")
            )
        try:
            if run.begin(found):
                while (ended := self._listen(run, found)) is None:
                    pass
                found.tasks += 1
                if self._is_worn(found):
                    self._drop()
                return ended
        except (EOFError, OSError):
            pass
        finally:
            run.leave()
        # The pipe is closed before the server has told how it ended.
        found.process.join(JOIN_TIME)
        code = found.process.exitcode
        self._drop()
        return make_ended(WorkerProcessDied(_describe(code)))

    def _listen(self, run: "_ProcessRun", found: _Child) -> Ended | None:
        wait([found.connection, found.process.sentinel])
        if not found.connection.poll():
            raise EOFError
        match found.connection.recv():
            case ("began", number) if number == run.number:
                self._executor.begun(run.job)
            case ("progress", number, str(text)) if number == run.number:
                run.job.control.report(text)
            case ("ended", number, Ended() as ended, int(memory)) if number == run.number:
                found.memory = memory
                return ended
        return None

    def _is_worn(self, found: _Child) -> bool:
        settings = self._executor.settings
        worn = settings.process_tasks and found.tasks >= settings.process_tasks
        return bool(worn or (settings.process_recycle_memory and found.memory > settings.process_recycle_memory))

    def _drop(self) -> None:
        found, self._child = self._child, None
        if found:
            found.close()


class _ProcessRun:
    """One handler in a child."""

    killable = True
    _numbers = itertools.count(1)

    def __init__(self, job: Job) -> None:
        self.job, self.number = job, next(self._numbers)
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._killed = self._cancelled = False

    def begin(self, found: _Child) -> bool:
        """In the slot's thread: hand it over. False: it was killed before it began."""
        job = self.job
        order = child.Order(self.number, job.envelope.encode(), job.wrap, job.body)
        with self._lock:
            if self._killed:
                return False
            found.connection.send(("run", order))
            if self._cancelled:
                found.connection.send(("cancel", self.number))
            self._child = found
        return True

    def leave(self) -> None:
        with self._lock:
            self._child = None

    def cancel(self) -> None:
        self._cancelled = True
        self._tell(("cancel", self.number))

    def interrupt(self, error: Exception) -> None:
        self._tell(("soft", self.number, str(error)))

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._child:
                self._child.process.kill()

    async def settle(self) -> None:
        """The next one waits for the new child by itself."""

    def where(self) -> str:
        """Asked in Python first, which knows coroutines; a child that holds its interpreter is asked in C."""
        with self._lock:
            found = self._child
            if found is None or found.process.pid is None:
                return ""
            with contextlib.suppress(OSError):
                os.ftruncate(found.stacks, 0)
                os.lseek(found.stacks, 0, os.SEEK_SET)
                found.connection.send(("where", self.number))
                if text := _read_growing(found.stacks):
                    return text
                os.kill(found.process.pid, signal.SIGUSR2)
                return _read_growing(found.stacks)
        return ""

    def _tell(self, message: tuple[Any, ...]) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._child:
                self._child.connection.send(message)


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


def _describe(code: int | None) -> str:
    """What ended a child, from its exit code."""
    if code is None:
        return "the handler's process ended without an exit code"
    if code >= 0:
        return f"the handler's process ended with exit code {code} in the middle of the task"
    name = signal.Signals(-code).name if -code in [one.value for one in signal.Signals] else str(-code)
    hint = ": out of memory, most likely (see the container's memory limit)" if name == "SIGKILL" else ""
    return f"the handler's process was ended by {name} in the middle of the task{hint}"
