"""A child process that runs handlers, one at a time: the inside of `isolation: process`.

Owns the process: the handler runs on its main thread, a second one listens to the parent (cancel, soft timeout, end).
It must not outlive the parent: the closed pipe ends it, and the kernel does when even that is not heard. It is made by
fork from a server that has imported the app already, so it starts in milliseconds and shares its memory.
"""

import asyncio
import contextlib
import ctypes
import faulthandler
import os
import queue
import resource
import signal
import threading
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvloop
from millpond_api.envelope import Envelope

from millpond.context import Context, Control
from millpond.errors import NonRetryable, SoftTimeout
from millpond.outcomes import Ended, make_ended
from millpond.packing import Wrap
from millpond.talking import Word
from millpond.worker.calling import Driver, Job, call_async, call_plain, make_context
from millpond.worker.clients import OwnClient
from millpond.worker.loading import load_app
from millpond.worker.logs import configure_logging
from millpond.worker.stacks import coroutine_stack, thread_stack

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"
"""The kernel, out of memory, takes a handler's process before the worker's own."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class InheritedFd:
    """A file descriptor that is handed over when a child is made; arrives as the child's own."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _detach, (DupFd(self._number),)

    def fileno(self) -> int:
        return self._number


def _detach(duplicate: Any) -> InheritedFd:
    return InheritedFd(duplicate.detach())


@dataclass(frozen=True)
class Plan:
    """What a child needs to know. `stacks` is a file that it writes its stacks to when it gets SIGUSR2."""

    app: str
    client: OwnClient
    memory: int
    stacks: InheritedFd


@dataclass(frozen=True)
class Order:
    """One handler to run, as it crosses the pipe. The body stays in the task's codec."""

    number: int
    envelope: bytes
    wrap: Wrap
    body: bytes


class _RelayControl(Control):
    """Tells the parent what the handler reports."""

    def __init__(self, number: int, pipe: "_Pipe") -> None:
        super().__init__()
        self._number, self._pipe = number, pipe

    def report(self, text: str) -> None:
        super().report(text)
        self._pipe.send(("progress", self._number, self.progress))


@dataclass(eq=False)
class _PipedJob(Job):
    """The child's side of a job: what its handler says crosses the pipe."""

    number: int = 0
    pipe: "_Pipe | None" = None

    def say(self, word: Word) -> None:
        if self.pipe:
            self.pipe.send(("word", self.number, word))


class _Pipe:
    """The child's end; any thread of the handler's may report progress or say a word."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self._lock = connection, threading.Lock()

    def send(self, message: tuple[Any, ...]) -> None:
        with self._lock, contextlib.suppress(OSError):
            self.connection.send(message)


def serve(connection: Connection, plan: Plan) -> None:
    """The whole life of the process."""
    _die_with_parent()
    configure_logging()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR2, file=plan.stacks.fileno(), all_threads=True)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    child = _Child(_Pipe(connection), plan)
    if plan.memory:
        _limit_memory(plan.memory)
    threading.Thread(target=child.listen, name="millpond-parent", daemon=True).start()
    child.work()


def _die_with_parent() -> None:
    """The kernel kills us when the server that forked us ends, which it does when the worker ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _limit_memory(allowed: int) -> None:
    """Private memory beyond what is there now: unlike RLIMIT_AS it does not count what is only mapped or shared."""
    held = resource_size("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (held + allowed, held + allowed))


def resource_size(field: str, pid: int | str = "self") -> int:
    """A line of /proc/PID/status (VmRSS, VmData) in bytes; 0 when the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def name_limit(ended: Ended, memory: int) -> Ended:
    """Python's own MemoryError says nothing; one under a limit (bytes) says which, and where it is set."""
    error = ended.error
    if not memory or error is None or error.type != "MemoryError" or error.message:
        return ended
    why = (
        f"the process needed more than its memory limit of {memory / 2**20:,.0f} MiB: raise spec.isolation.memoryLimit"
    )
    return replace(ended, error=error.model_copy(update={"message": why}))


class _Child:
    """Two threads: `listen` hears the parent, `work` runs handlers on the main one."""

    def __init__(self, pipe: _Pipe, plan: Plan) -> None:
        self._pipe, self._plan = pipe, plan
        self._app = load_app(plan.app)
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._number = 0
        self._control = Control()
        self._context: Context | None = None
        self._soft: SoftTimeout | None = None
        self._driver = Driver()
        self._loop: asyncio.AbstractEventLoop | None = None
        signal.signal(signal.SIGUSR1, self._on_soft)

    def listen(self) -> None:
        try:
            while True:
                self._hear(self._pipe.connection.recv())
        except (EOFError, OSError):
            # The worker is gone or wants us gone: nobody waits for what runs here.
            os._exit(0)

    def _hear(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("run", Order() as order):
                self._orders.put(order)
            case ("cancel", number):
                self._cancel(number)
            case ("soft", number, text):
                self._interrupt(number, text)
            case ("word", number, word) if number == self._number and self._context:
                self._context.hear(word)
            case ("where", number) if number == self._number:
                self._tell_stack()

    def work(self) -> None:
        while True:
            order = self._orders.get()
            ended = self._run(order)
            self._pipe.send(("ended", order.number, ended, resource_size("VmRSS")))

    def _run(self, order: Order) -> Ended:
        envelope = Envelope.decode(order.envelope)
        handler = self._app.handlers.get(envelope.handler)
        if handler is None:
            why = "is not registered when the app is imported: a process of its own does not know it"
            return make_ended(NonRetryable(f"handler {envelope.handler!r} {why}"))
        control = _RelayControl(order.number, self._pipe)
        context = make_context(envelope, control, _no_loop)
        job = _PipedJob(handler, envelope, context, control, order.wrap, order.body, lambda _: None)
        job.number, job.pipe = order.number, self._pipe
        context.connect_line(job)
        with self._lock:
            self._number, self._control, self._context, self._soft = order.number, control, context, None
        ended: Ended | None = None
        try:
            ended = self._call(job, context)
        except SoftTimeout as late:
            # Raised between the handler's last step and ours.
            ended = ended or make_ended(late)
        with self._lock:
            self._number = 0
        return name_limit(ended, self._plan.memory)

    def _call(self, job: Job, context: Context) -> Ended:
        if not job.handler.is_async:
            self._say_begun()
            return call_plain(job)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                return runner.run(self._run_async(job, context))
            except asyncio.CancelledError as error:
                return make_ended(error)
            finally:
                self._loop = None

    async def _run_async(self, job: Job, context: Context) -> Ended:
        self._driver = Driver()
        self._driver.task = asyncio.current_task()
        async with self._plan.client.opened() as connect:
            context._connect = connect
            self._loop = asyncio.get_running_loop()
            self._say_begun()
            return await call_async(job, self._driver)

    def _say_begun(self) -> None:
        """The handler's time begins, and it can be interrupted from now on."""
        self._pipe.send(("began", self._number))

    def _tell_stack(self) -> None:
        """Where the handler is, into the file that the worker reads."""
        task, ident = self._driver.task if self._loop else None, threading.main_thread().ident
        stack = coroutine_stack(task.get_coro(), ident) if task else thread_stack(ident)
        os.write(self._plan.stacks.fileno(), stack.encode(errors="replace"))

    def _cancel(self, number: int) -> None:
        with self._lock:
            if number == self._number:
                self._control.cancelled = True
                if self._loop and self._driver.task:
                    self._loop.call_soon_threadsafe(self._driver.task.cancel)

    def _interrupt(self, number: int, text: str) -> None:
        with self._lock:
            if number != self._number:
                return
            if self._loop:
                self._loop.call_soon_threadsafe(self._driver.interrupt, SoftTimeout(text))
            else:
                # A signal, because it ends a sleep or a read that the main thread waits in.
                self._soft = SoftTimeout(text)
                signal.pthread_kill(cast("int", threading.main_thread().ident), signal.SIGUSR1)

    def _on_soft(self, number: int, frame: FrameType | None) -> None:
        """On the main thread, between two bytecodes; late when the handler has just ended."""
        error, self._soft = self._soft, None
        if error and self._number:
            raise error


async def _no_loop() -> Any:
    raise RuntimeError("ctx.client() needs an async handler: open a millpond.sync.Client of your own instead")
