"""One run of the app's code for a lease: a call, or what opens and closes the lease. Main loop.

Owns that run from its start in an executor to its end, whatever ends it: itself, its timeout, or `stop`. It must not
know what the run is for. It survives code that does not end when it is asked to: that is ended by force, as far as
force reaches, and given up otherwise (a thread is counted as lost, as after a hard timeout).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from millpond_api.envelope import Envelope

from millpond.context import Context, Control
from millpond.errors import LeaseLost
from millpond.outcomes import Ended, make_ended
from millpond.packing import Wrap
from millpond.registry import Handler
from millpond.timeouts import NONE, STOP_GRACE, Limits
from millpond.worker.calling import Job
from millpond.worker.executors import Executors
from millpond.worker.watch import Hooks, Watch


@dataclass(frozen=True)
class Order:
    """What is to run."""

    handler: Handler
    envelope: Envelope
    wrap: Wrap
    body: bytes
    limits: Limits = NONE


class Errand:
    """`run` returns when it has ended; `stop` makes that soon."""

    def __init__(self, order: Order, context: Context, control: Control, note: Callable[[str, str], None]) -> None:
        self._over: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._job = Job(
            order.handler, order.envelope, context, control, order.wrap, order.body, self._end, limits=order.limits
        )
        self._note = note
        self._watch: Watch | None = None
        self._overdue: Ended | None = None
        self._forcing: asyncio.TimerHandle | None = None
        self._force_task: asyncio.Task[None] | None = None

    async def run(self, executors: Executors) -> Ended:
        """How it ended."""
        if self._job.limits is not NONE:
            self._job.begun = self._begin_watch
        executors.submit(self._job)
        try:
            return await self._over
        finally:
            if self._watch:
                self._watch.stop()
            if self._forcing:
                self._forcing.cancel()
            self._job.part()

    def stop(self) -> None:
        """Ask it to end; after STOP_GRACE, by force."""
        run = self._job.run
        if run is None or self._over.done() or self._forcing:
            return
        self._job.control.cancelled = True
        run.cancel()
        self._forcing = asyncio.get_running_loop().call_later(STOP_GRACE, self._begin_force)

    def _begin_force(self) -> None:
        self._force_task = asyncio.create_task(self._force())

    async def _force(self) -> None:
        run = self._job.run
        if run is None:
            return
        run.kill()
        await run.settle()
        self._end(make_ended(LeaseLost("it did not end when its lease or its caller's patience did; ended by force")))

    def _begin_watch(self) -> None:
        if self._job.run and not self._over.done():
            self._watch = Watch(self._job, self._job.run, Hooks(self._on_hung, self._on_overdue, self._end))

    def _on_hung(self, where: str, stack: str) -> None:
        if stack:
            self._note("TaskHung", f"a call of {self._job.handler.name} hangs at {where}\n{stack}")

    def _on_overdue(self, ended: Ended) -> None:
        self._overdue = ended

    def _end(self, ended: Ended) -> None:
        if not self._over.done():
            # What force made of it is not the reason.
            self._over.set_result(self._overdue or ended)
