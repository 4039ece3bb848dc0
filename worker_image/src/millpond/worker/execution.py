"""The run of one attempt's handler, from its start to its end: its time, its being cut short, how it ended.

Owns the job while it runs and what is known of its end. It survives a handler that never ends (whoever waits hears of
the cut) and one that ends twice (force and the handler itself: the first word counts). It writes no log of a task and
answers no message: `attempt` does.
"""

import asyncio
from datetime import UTC

import structlog
from millpond_api.envelope import Envelope
from millpond_api.events import NOT_RUNNING, utc_now
from millpond_api.lifecycle import TaskState
from millpond_api.messages import QueryAnswer, QueryAsk

from millpond.outcomes import Ended, make_ended
from millpond.packing import Wrap
from millpond.registry import Handler
from millpond.talking import Word
from millpond.timeouts import NONE, STOP_GRACE, choose_limits
from millpond.worker.board import Running
from millpond.worker.calling import Job
from millpond.worker.checkpoints import Writer
from millpond.worker.conversation import Conversation
from millpond.worker.desk import LEASE
from millpond.worker.shop import Shop
from millpond.worker.watch import Hooks, Watch

HARD_PATIENCE = 1.0
"""Seconds to hear of a hard cancel before it is ended by force: a thread that is given up is lost for good."""


class Execution:
    """One handler's run, in the main loop. It may be cut short or cancelled before it has started."""

    def __init__(self, shop: Shop, envelope: Envelope) -> None:
        self._shop, self._envelope = shop, envelope
        self._job: Job | None = None
        self._watch: Watch | None = None
        self._overdue: Ended | None = None
        self.ended: Ended | None = None
        self.cut: TaskState | None = None
        """The task's state from now on, whatever becomes of the handler."""
        self.cancelled = False
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with the first of both: one future to wait on costs a tenth of `asyncio.wait`."""
        self._gone: asyncio.Future[None] | None = None
        """Done with the handler, if somebody waits for that."""
        self._claim = 0
        self._conversation: Conversation | None = None
        self._forcing: asyncio.Task[None] | None = None

    @property
    def spoke(self) -> bool:
        """Whether the handler and anybody have spoken, so that something may be left of it."""
        return self._conversation is not None

    @property
    def started(self) -> bool:
        return self._job is not None

    def start(self, handler: Handler, wrap: Wrap, body: bytes, claim: int) -> None:
        """Begin, unless it was cut short already. `body` is the message's, wrapped as `wrap` says."""
        self._claim = claim
        if self.cut is not None:
            return
        envelope = self._envelope
        running = Running(envelope.id, envelope.handler, envelope.attempt, envelope.object, utc_now())
        running.owner = envelope.owner
        self._shop.board.running[id(self)] = running
        context = self._shop.context_of(envelope, running)
        limits = NONE if handler is LEASE else choose_limits(envelope, handler, self._shop.settings)
        job = Job(handler, envelope, context, running.control, wrap, body, self._on_ended, limits=limits, claim=claim)
        job.said = self._on_said
        if limits is not NONE:
            job.begun = lambda: self._begin_watch(job, running)
        self._job = job
        (self._shop.desk if handler is LEASE else self._shop.executors).submit(job)
        if self.cancelled:
            self._ask_to_stop()

    async def wait(self) -> None:
        """Until it has ended, was cut short, or its task's deadline has passed (which cuts it short)."""
        timer = self._start_deadline()
        try:
            await self._over
        finally:
            if timer:
                timer.cancel()
            if self._watch:
                self._watch.stop()

    async def until_ended(self) -> None:
        """Until the handler itself has ended, if it was started. One may wait at a time."""
        if self._job and self.ended is None:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone

    def release(self) -> None:
        """Stop it: the task is given back."""
        self._stop(TaskState.QUEUED)
        if self._job and self._job.run and self._job.run.killable:
            # Somebody else may run it in a moment.
            self._job.run.kill()

    def cancel(self, *, hard: bool = False) -> None:
        """Somebody cancelled the task: ask the handler to stop; `hard`: and make it, if it does not."""
        self.cancelled = True
        self._ask_to_stop()
        if hard and self._forcing is None:
            self._forcing = asyncio.create_task(self._end_by_force())

    async def query(self, ask: QueryAsk) -> QueryAnswer:
        """What the handler answers."""
        if self._job is None or self._job.run is None or self.ended is not None:
            return QueryAnswer(ok=False, code=NOT_RUNNING, message="its handler has not begun, or has ended")
        return await self._talk().query(ask)

    async def leave(self) -> None:
        """The attempt is over: what the handler does from now on reaches nobody."""
        self._shop.board.running.pop(id(self), None)
        if self._forcing:
            self._forcing.cancel()
        if self._conversation:
            await self._conversation.close()
        if self._job:
            self._job.part()

    def _on_said(self, word: Word) -> None:
        self._talk().said(word)

    def _talk(self) -> Conversation:
        """The line to the handler, made when somebody first speaks."""
        if self._conversation is None:
            shop, envelope = self._shop, self._envelope
            writer = Writer(self._claim, envelope.attempt, shop.settings.worker)
            self._conversation = Conversation(shop.switchboard, envelope.id, writer, self._tell)
        return self._conversation

    def _tell(self, word: Word) -> bool:
        return self._job is not None and self._job.run is not None and self._job.run.tell(word)

    async def _end_by_force(self) -> None:
        """What has not ended by itself in a moment is killed, or given up where nothing kills it."""
        await asyncio.wait((self._over,), timeout=HARD_PATIENCE)
        if self.ended is None and self._job and self._job.run:
            run = self._job.run
            run.kill()
            await run.settle()
            self._on_ended(make_ended(asyncio.CancelledError("cancelled, and ended by force")))

    def _start_deadline(self) -> asyncio.TimerHandle | None:
        deadline = self._envelope.deadline
        if deadline is None:
            return None
        left = (deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)) - utc_now()
        loop = asyncio.get_running_loop()
        return loop.call_later(max(0.0, left.total_seconds()), self._stop, TaskState.EXPIRED)

    def _begin_watch(self, job: Job, running: Running) -> None:
        if job.run and self.ended is None:
            hooks = Hooks(lambda where, stack: self._on_hung(running, where, stack), self._on_overdue, self._on_ended)
            self._watch = Watch(job, job.run, hooks)

    def _on_hung(self, running: Running, where: str, stack: str) -> None:
        """It says nothing any more, or again: the heartbeat tells it, the worker's log has the stack."""
        running.hung, running.where = (utc_now() if stack else None), where
        if stack:
            envelope = self._envelope
            log = structlog.get_logger("millpond.worker").bind(
                task=envelope.id, handler=envelope.handler, attempt=envelope.attempt
            )
            log.warning("the handler hangs past its soft timeout", where=where, stack=stack)
            said = f"task {envelope.object or envelope.id} ({envelope.handler}) hangs at {where}"
            self._shop.note("TaskHung", f"{said}\n{stack}")

    def _on_overdue(self, ended: Ended) -> None:
        self._overdue = ended

    def _on_ended(self, ended: Ended) -> None:
        if self.ended is None:
            # What force made of it (a cancellation, a dead process) is not the reason.
            self.ended = self._overdue or ended
            self._end_wait()
            if self._gone and not self._gone.done():
                self._gone.set_result(None)

    def _stop(self, state: TaskState) -> None:
        if self.cut is None and self.ended is None:
            self.cut = state
            self._end_wait()
        self._ask_to_stop()

    def _end_wait(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _ask_to_stop(self) -> None:
        run = self._job.run if self._job else None
        if self._job and run:
            self._job.control.cancelled = True
            run.cancel()
            if run.killable:
                asyncio.get_running_loop().call_later(STOP_GRACE, run.kill)
