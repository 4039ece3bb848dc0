"""Where handlers run, away from the main loop: an event loop on a thread, a thread each, a child process each.

Owns the choice of the place and the way back of how they ended. User code may block, spin, crash or never return
there: the main loop and the lease keeper go on beside it.
"""

import asyncio
from collections.abc import Callable

from millpond.outcomes import Ended
from millpond.registry import Handler, Isolation, Registry
from millpond.settings import Settings
from millpond.timeouts import choose_isolation
from millpond.worker.calling import Job, Run
from millpond.worker.clients import OwnClient
from millpond.worker.hosts import THREADS, Mailbox, Place
from millpond.worker.inline import InlineExecutor
from millpond.worker.processes import ProcessExecutor
from millpond.worker.supervising import Supervision
from millpond.worker.threads import ThreadExecutor


class Executors:
    """All of them; every method is called in the main loop, whose thread gets what they report."""

    def __init__(
        self, settings: Settings, lost: Callable[[int], None], supervision: Supervision, place: Place = THREADS
    ) -> None:
        self._settings, self._on_lost, self._place, self._supervision = settings, lost, place, supervision
        self._outbox: Mailbox | None = None
        self.lost = 0
        """Threads and loops given up since the start: each may still hold memory and a processor."""
        client = OwnClient(settings.nats_url, settings.namespace)
        self._inline = InlineExecutor(place, self._finish, self._count_lost)
        self._threads = ThreadExecutor(self._finish, self._give_up, client)
        self._processes: ProcessExecutor | None = None

    def start(self, handlers: Registry) -> None:
        self._outbox = Mailbox(asyncio.get_running_loop())
        if any(self._choose(handler) == "process" for handler in handlers):
            self._get_processes()

    async def stop(self) -> None:
        """End the child processes and the loop; threads end with the process."""
        if self._processes:
            await self._processes.stop()
        await self._inline.stop()

    def submit(self, job: Job) -> Run:
        """Run it; `job.done` hears how it ended."""
        where = self._choose(job.handler)
        job.outbox = self._outbox
        job.context.connect_line(job)
        if where == "inline":
            job.run = self._inline.start(job)
            job.begun()
            return job.run
        job.outside = True
        self._place.outside(+1)
        if where == "thread":
            job.run = self._threads.start(job)
            job.begun()
        else:
            job.run = self._get_processes().start(job)
        return job.run

    def _choose(self, handler: Handler) -> Isolation:
        where = choose_isolation(handler, self._settings.isolation)
        if where == "process" and not self._place.children:
            return "inline" if handler.is_async else "thread"
        return where

    def _get_processes(self) -> ProcessExecutor:
        if self._processes is None:
            self._processes = ProcessExecutor(self._settings, self._tell, self._begin, self._supervision)
            self._processes.open()
        return self._processes

    def _begin(self, job: Job) -> None:
        assert self._outbox is not None
        self._outbox.post(job.begun)

    def _finish(self, job: Job, ended: Ended) -> None:
        assert self._outbox is not None
        self._outbox.post(lambda: self._tell(job, ended))

    def _tell(self, job: Job, ended: Ended) -> None:
        """In the main loop."""
        self._bring_in(job)
        job.done(ended)

    def _bring_in(self, job: Job) -> None:
        if job.outside:
            job.outside = False
            self._place.outside(-1)

    def _give_up(self, job: Job) -> None:
        self._bring_in(job)
        self._count_lost()

    def _count_lost(self) -> None:
        self.lost += 1
        self._on_lost(self.lost)
