"""One message from its delivery to its ack: claim, run, commit, consequences, ack (protocol.md, steps 2 to 6).

Owns the order of those steps for one attempt. What they mean is decided in `outcomes`, written by `journal`, run by
`executors`. It survives a lost broker (every step waits until it is certain), a redelivery of what it still runs (it
takes over the new delivery instead of running twice) and being fenced (it drops its result, acks only what has ended).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC

import structlog
from millpond_api.envelope import Envelope
from millpond_api.events import TaskError, TaskEvent, utc_now
from millpond_api.lifecycle import TaskState

from millpond.codecs import missing
from millpond.context import Context
from millpond.limiting import PlaceDemand, find_aside
from millpond.outcomes import (
    Claim,
    Commit,
    Ended,
    Finish,
    Origin,
    choose_policy,
    decide_claim,
    decide_first_claim,
    decide_outcome,
    is_same,
    make_cancelled,
    make_event,
    make_expired,
    make_failed,
    make_released,
)
from millpond.packing import Habits, Packed, find_lack, wrap_of
from millpond.registry import Handler, Registry
from millpond.settings import ResultSettings, Settings
from millpond.timeouts import NONE, choose_limits
from millpond.transport import Fenced, Refused
from millpond.worker.board import Board, Running
from millpond.worker.calling import Job
from millpond.worker.delivery import NAK, Delivery, nak_after
from millpond.worker.executors import Executors
from millpond.worker.journal import PASSING, Journal, Pause
from millpond.worker.limiter import Entry, Instead, Later, Limiter
from millpond.worker.shelf import Shelf
from millpond.worker.watch import Hooks, Watch

STOP_GRACE = 5.0
"""Seconds that a handler in a process has to end when it is asked to; then the process is killed."""

FENCED_AT_ONCE = 4
"""Refused claims in a row after which it waits between them: a log that cannot be read would else be asked for ever."""

PLACE_PATIENCE = 5.0
"""Seconds that a place waits for a handler to stop whose task was cancelled or has expired."""


@dataclass(eq=False)
class Shop:
    """What every attempt of a worker works with."""

    settings: Settings
    handlers: Registry
    board: Board
    journal: Journal
    executors: Executors
    context_of: Callable[[Envelope, Running], Context]
    limiter: Limiter
    shelf: Shelf
    note: Callable[[str, str], None] = lambda reason, message: None
    """Tell something about this worker in its log of transitions."""
    habits: Habits = field(init=False)

    def __post_init__(self) -> None:
        results = self.settings.results
        self.habits = Habits(results.codecs, results.pickle)


class Attempt:
    """One attempt at a task, in the main loop."""

    def __init__(self, shop: Shop, envelope: Envelope, delivery: Delivery) -> None:
        self.shop, self.envelope, self.delivery = shop, envelope, delivery
        self.origin = Origin(envelope, shop.settings.worker)
        self._wrap = wrap_of(envelope, shop.habits)
        self._lack = find_lack(self._wrap)
        self._job: Job | None = None
        self._watch: Watch | None = None
        self._overdue: Ended | None = None
        self._ended: Ended | None = None
        self._cut: TaskState | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with the first of both: one future to wait on costs a tenth of `asyncio.wait`."""
        self._gone: asyncio.Future[None] | None = None
        """Done with the handler, if somebody waits for that."""
        self._cancelled = False
        self._place: PlaceDemand | None = None
        self._paid: set[str] = set()
        self._mine: TaskEvent | None = None

    def adopt(self, delivery: Delivery) -> None:
        """The same message came again while we run it (its lease ran out, nobody else claimed it): answer this one."""
        self.shop.board.leases.pop(self.delivery.reply, None)
        self.delivery = delivery
        self.shop.board.leases[delivery.reply] = None

    def release(self) -> None:
        """Stop it, give it back with the attempt refunded."""
        self._stop(TaskState.QUEUED)
        if self._job and self._job.run and self._job.run.killable:
            # Somebody else may run it in a moment.
            self._job.run.kill()

    def cancel(self) -> None:
        """Somebody cancelled the task: ask the handler to stop. Its end will meet the canceller's event."""
        self._cancelled = True
        self._ask_to_stop()

    def drop(self) -> None:
        """Let go of the message: its lease is no longer prolonged."""
        self.shop.board.leases.pop(self.delivery.reply, None)

    async def run(self) -> None:
        """Everything, in order. Returns when the slot is free again."""
        handler = None if self._lack else self.shop.handlers.get(self.envelope.handler)
        self._place = self.shop.limiter.place_of(self.envelope, handler)
        try:
            claim = await self._claim(handler)
            if claim is not None and handler is not None:
                await self._serve(handler, claim)
        finally:
            self.drop()
            self.shop.board.running.pop(id(self), None)
            if self._job:
                self._job.part()

    async def _claim(self, handler: Handler | None) -> int | None:
        """The sequence of our claim, or None when there is nothing to run (any more)."""
        # A first delivery needs no read: the fence says if the log is not empty after all.
        view_is_empty = self.envelope.rank == (1, 0) and self.delivery.count == 1 and handler is not None
        pause, fenced = Pause(), 0
        while True:
            try:
                if view_is_empty:
                    decision: Claim | Commit | Finish = decide_first_claim(self.origin, utc_now())
                else:
                    view = await self.shop.journal.read(self.envelope.id)
                    if view.last and self._mine and is_same(view.last, self._mine):
                        return view.last.sequence
                    if (aside := find_aside(view, self.delivery.sequence)) and not view.terminal:
                        await self._put_aside(aside, goes_on=aside is not view.last)
                        return None
                    limit = self.shop.settings.poison_limit
                    decision = decide_claim(view, self.origin, limit, utc_now())
                view_is_empty = False
                return await self._follow(decision, handler)
            except Fenced:
                # Somebody wrote between our reading and our claim: read again, at once the first times.
                fenced += 1
                if fenced < FENCED_AT_ONCE:
                    continue
            except (*PASSING, Refused) as error:
                self._log().warning("claim not confirmed; reading the log", why=str(error))
            await pause.wait()

    async def _follow(self, decision: Claim | Commit | Finish, handler: Handler | None) -> int | None:
        match decision:
            case Finish(event):
                await self._settle(event)
            case Commit(expected, event):
                await self.shop.journal.append(self.envelope.id, event, expected)
                await self._settle(event)
            case Claim(expected) if handler is not None:
                return await self._enter(handler, expected)
            case Claim():
                await self._wait_for_handler()
        return None

    async def _enter(self, handler: Handler, expected: int) -> int | None:
        """Claim it when its limits let it in; the claim's sequence."""
        if self.shop.limiter.is_concerned(self.envelope, handler):
            entry = Entry(self.origin, handler, self.delivery, self._paid)
            match await self.shop.limiter.enter(entry):
                case Later(seconds):
                    await self.shop.journal.answer_latest(self._reply, nak_after(seconds))
                    return None
                case Instead(event):
                    sequence = await self.shop.journal.append(self.envelope.id, event, expected)
                    stored = event.model_copy(update={"sequence": sequence})
                    await (self._put_aside(stored) if event.aside else self._settle(stored))
                    return None
        self._mine = make_event(self.origin, TaskState.RUNNING, utc_now())
        return await self.shop.journal.append(self.envelope.id, self._mine, expected)

    async def _put_aside(self, event: TaskEvent, *, goes_on: bool = False) -> None:
        """A limit's event stands: the message waits elsewhere, then it leaves the queue.

        `goes_on`: the log has gone on since, for another message of the task, so this one has done all of that.
        """
        if not goes_on:
            await self.shop.limiter.put_aside(self.envelope, event, self.delivery)
        await self.shop.journal.answer_latest(self._reply)

    async def _wait_for_handler(self) -> None:
        """No attempt is used: a worker with the handler may come, with a new version of the image for instance."""
        envelope, delivery = self.envelope, self.delivery
        wanted = f"codec:{self._lack}" if self._lack else envelope.handler
        self.shop.board.missing.note(envelope.id, wanted, envelope.object)
        self.drop()
        delay = await self.shop.shelf.take(delivery.sequence, delivery.reply, wanted, delivery.count)
        have = ", ".join(self.shop.handlers.names())
        if self._lack:
            self._log().warning("the task waits for a worker that can read it", why=str(missing(self._lack)))
        elif delay is None:
            self._log().warning("no worker of the pool has this handler; the task waits", have=have)
        else:
            self._log().info("no such handler in this app; the message goes back", have=have, again_in=delay)

    async def _serve(self, handler: Handler, claim: int) -> None:
        """Run the handler under our claim, then commit how it ended."""
        started = time.perf_counter()
        if self._cut is None:
            self._start(handler)
        timer = self._start_deadline()
        try:
            await self._over
        finally:
            if timer:
                timer.cancel()
            if self._watch:
                self._watch.stop()
        event, result = self._decide(handler)
        stands = await self._commit(event, claim, result)
        succeeded = event.state == TaskState.SUCCEEDED
        if event.state != TaskState.SCHEDULED:
            # A snooze is neither served nor failed: the task has still to be done.
            self.shop.board.count_served(time.perf_counter() - started, self.envelope.task_class, succeeded=succeeded)
        if not stands:
            self.drop()
            self._log().warning("fenced: somebody else wrote the task's log after our claim; the result is dropped")
            await self._complete_what_fenced()
        elif event.state == TaskState.QUEUED:
            await self.shop.journal.answer_latest(self._reply, NAK)
            return
        else:
            await self._settle(event)
        self.drop()
        # After a deadline the handler may still be at it, and a thread cannot be stopped: its slot stays taken.
        if self._ended is None:
            await self._until_ended()

    async def _complete_what_fenced(self) -> None:
        """If an outcome stands, do what a redelivery would: a cancelled task leaves the queue now, not a lease later.

        Anything else in the log is somebody's claim of this very message, which we must not touch.
        """
        with contextlib.suppress(*PASSING):
            view = await self.shop.journal.read(self.envelope.id)
            decision = decide_claim(view, self.origin, self.shop.settings.poison_limit, utc_now())
            if isinstance(decision, Finish):
                await self._settle(decision.event)

    def _start(self, handler: Handler) -> None:
        envelope = self.envelope
        running = Running(envelope.id, envelope.handler, envelope.attempt, envelope.object, utc_now())
        self.shop.board.running[id(self)] = running
        context = self.shop.context_of(envelope, running)
        limits = choose_limits(envelope, handler, self.shop.settings)
        body = self.delivery.message.body
        job = Job(handler, envelope, context, running.control, self._wrap, body, self._on_ended, limits=limits)
        if limits is not NONE:
            job.begun = lambda: self._begin_watch(job, running)
        self._job = job
        self.shop.executors.submit(job)
        if self._cancelled:
            self._ask_to_stop()

    def _start_deadline(self) -> asyncio.TimerHandle | None:
        deadline = self.envelope.deadline
        if deadline is None:
            return None
        left = (deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)) - utc_now()
        loop = asyncio.get_running_loop()
        return loop.call_later(max(0.0, left.total_seconds()), self._stop, TaskState.EXPIRED)

    def _begin_watch(self, job: Job, running: Running) -> None:
        if job.run and self._ended is None:
            hooks = Hooks(lambda where, stack: self._on_hung(running, where, stack), self._on_overdue, self._on_ended)
            self._watch = Watch(job, job.run, hooks)

    def _on_hung(self, running: Running, where: str, stack: str) -> None:
        """It says nothing any more, or again: the heartbeat tells it, the worker's log has the stack."""
        running.hung, running.where = (utc_now() if stack else None), where
        if stack:
            self._log().warning("the handler hangs past its soft timeout", where=where, stack=stack)
            said = f"task {self.envelope.object or self.envelope.id} ({self.envelope.handler}) hangs at {where}"
            self.shop.note("TaskHung", f"{said}\n{stack}")

    def _on_overdue(self, ended: Ended) -> None:
        self._overdue = ended

    def _on_ended(self, ended: Ended) -> None:
        if self._ended is None:
            # What force made of it (a cancellation, a dead process) is not the reason.
            self._ended = self._overdue or ended
            self._end_wait()
            if self._gone and not self._gone.done():
                self._gone.set_result(None)

    async def _until_ended(self) -> None:
        """Until the handler has ended. One may wait at a time."""
        if self._ended is None:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone

    def _stop(self, state: TaskState) -> None:
        if self._cut is None and self._ended is None:
            self._cut = state
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

    def _decide(self, handler: Handler) -> tuple[TaskEvent, Packed | None]:
        """The event of how it ended (and the result). Being cut short comes first if both happened."""
        now = utc_now()
        if self._cut is not None:
            expired = self._cut == TaskState.EXPIRED
            return (make_expired(self.origin, now) if expired else make_released(self.origin, now)), None
        ended = self._ended
        assert ended is not None, "the wait is over with the first of both"
        if self._cancelled and ended.error is not None:
            return make_cancelled(self.origin, "", now), None
        policy = choose_policy(self.envelope.retry, handler.retry, self.shop.settings.retry)
        return decide_outcome(ended, self.origin, policy, random.random(), now), ended.result

    async def _commit(self, event: TaskEvent, claim: int, result: Packed | None) -> bool:
        journal, task = self.shop.journal, self.envelope.id
        try:
            # A large result is stored first: the event must never name what is not there.
            event, inline = await journal.keep_result(task, event, result, self._result_settings())
            return await journal.commit(task, event, claim, inline)
        except Refused as error:
            # Too large for this server, most likely: say so in the log instead of trying for ever.
            why = TaskError(type="OutcomeRefused", message=f"NATS refused the outcome: {error}", retryable=False)
            failed = make_failed(self.origin, "OutcomeRefused", why, utc_now())
            return await journal.commit(task, failed, claim)

    def _result_settings(self) -> ResultSettings:
        """The pool's, with what the handler says for itself."""
        settings, handler = self.shop.settings.results, self.shop.handlers.get(self.envelope.handler)
        ttl = handler.result_ttl if handler else None
        return settings if ttl is None else settings.model_copy(update={"ttl": ttl})

    async def _settle(self, event: TaskEvent) -> None:
        """The outcome stands: its consequences, then the ack, which the log makes unnecessary to confirm."""
        await self.shop.journal.complete(self.envelope, event, self.delivery)
        if self._place:
            if self._job:
                # Whoever takes the place must not meet a handler that was told to stop and is still at it. One that
                # does not listen must not keep the place for ever.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._until_ended(), PLACE_PATIENCE)
            await self.shop.limiter.leave(self._place, self.envelope.id, self.delivery.sequence)
        await self.shop.journal.acknowledge(self._reply())

    def _reply(self) -> str:
        return self.delivery.reply

    def _log(self) -> structlog.typing.FilteringBoundLogger:
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("millpond.worker")
        return logger.bind(task=self.envelope.id, handler=self.envelope.handler, attempt=self.envelope.attempt)
