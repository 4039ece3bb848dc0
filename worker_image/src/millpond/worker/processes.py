"""Runs handlers in child processes that can be killed: the worker's side of `isolation: process`.

Owns the pool of those children; what is said to one is `process_run`'s. A job checks one out and in; one that ends in
the middle of a handler (a crash, `os._exit`, the kernel out of memory) fails that one attempt, with what ended it, and
the pool puts another in its place: in a slot that the pod's supervisor gives free again, so that it counts the crash.
Children are forked from a server that has imported the app and runs no thread, so a new one takes milliseconds and the
worker's own threads are never forked.
"""

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext
from typing import Any

from millpond_api.supervision import BRUTAL, Child

from millpond.errors import WorkerProcessDied
from millpond.outcomes import Ended, make_ended
from millpond.pool import Pool, PoolClosed
from millpond.settings import Settings
from millpond.worker import child
from millpond.worker.calling import Job
from millpond.worker.clients import OwnClient
from millpond.worker.handler_process import Death, HandlerProcess, make_parts
from millpond.worker.process_run import ProcessRun
from millpond.worker.supervising import Kin, Supervision

WARM = 4
"""Children that are started with the worker; more as they are needed."""
SERVER = "fork server"


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
        self._servers_lost = 0
        self._serving: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Start the first children now; returns at once."""
        self._supervision.add(Kin(Child(SERVER, shutdown=BRUTAL), _Place(lambda: None, self.stop), "the fork server"))
        for number in range(1, self.settings.concurrency + 1):
            name = f"handler process {number}"
            place = _Place(partial(self._vacant.put_nowait, name), self.stop)
            self._supervision.add(Kin(Child(name, shutdown=BRUTAL), place, "handler processes"))
        self._pool.open()

    def start(self, job: Job) -> ProcessRun:
        run = ProcessRun(job)
        task = run.task = asyncio.get_running_loop().create_task(self._serve(run))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return run

    async def stop(self) -> None:
        """Kill every child. Stopping twice is nothing."""
        for _ in range(self.settings.concurrency):
            self._vacant.put_nowait(None)
        await self._pool.close(timeout=0)

    async def _serve(self, run: ProcessRun) -> None:
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

    async def _attend(self, run: ProcessRun, found: HandlerProcess) -> Ended:
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
        loop, server = asyncio.get_running_loop(), self._servers_lost
        try:
            parts = await loop.run_in_executor(self._threads, make_parts, self._context, plan)
        except (EOFError, ConnectionError):
            # The server ended while it was asked.
            self._vacant.put_nowait(slot)
            self._lose_server(server)
            raise
        except OSError as error:
            self._supervision.crashed(slot, f"a handler's process could not be started: {error!r}")
            raise
        made = HandlerProcess(slot, parts, self._threads)
        made.server = server
        made.closed.add_done_callback(lambda _: None if made.task else self._report(made))
        return made

    def _report(self, ended: HandlerProcess) -> None:
        """Whether the supervisor has to know: not of an end that we wanted, and of the server's once."""
        death = ended.closed.result()
        if death.wanted or death.orphaned:
            self._vacant.put_nowait(ended.slot)
        else:
            self._supervision.crashed(ended.slot, _blame(death, ended.task), ended.task)
        if death.orphaned:
            self._lose_server(ended.server)

    def _lose_server(self, server: int) -> None:
        """The server of that number has ended: one crash, however many tell of it."""
        if server == self._servers_lost:
            self._servers_lost += 1
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


def _blame(death: Death, task: str) -> str:
    """The crash as the supervisor tells it."""
    return death.describe(amid_task=bool(task)) + (f" ({task})" if task else "")
