"""One message from its delivery to its ack: claim, run, commit, consequences, ack (protocol.md, steps 2 to 6).

Owns the order of those steps for one attempt. What they mean is decided in `outcomes`, written by `journal`, run by
`execution`. It survives a lost broker (every step waits until it is certain), a redelivery of what it still runs (it
takes over the new delivery instead of running twice) and being fenced (it drops its result, acks only what has ended).
"""

import asyncio
import contextlib
import random
import sys
import time

import structlog
from millpond_api.envelope import Envelope
from millpond_api.events import TaskError, TaskEvent, utc_now
from millpond_api.lifecycle import TaskState
from millpond_api.messages import QueryAnswer, QueryAsk

from millpond.codecs import missing
from millpond.limiting import PlaceDemand, find_aside
from millpond.outcomes import (
    Claim,
    Commit,
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
from millpond.packing import Packed, find_lack, wrap_of
from millpond.registry import Handler
from millpond.settings import ResultSettings
from millpond.transport import Fenced, Refused
from millpond.worker.delivery import NAK, Delivery, nak_after
from millpond.worker.desk import LEASE, is_lease
from millpond.worker.execution import Execution
from millpond.worker.journal import PASSING, Pause
from millpond.worker.limiter import Entry, Instead, Later
from millpond.worker.shop import Shop

FENCED_AT_ONCE = 4
"""Refused claims in a row after which it waits between them: a log that cannot be read would else be asked for ever."""

FINAL = (TaskState.SUCCEEDED, TaskState.CANCELLED, TaskState.EXPIRED)
"""Ends that nothing follows; a failed task may be redriven, and goes on from its checkpoint then."""

PLACE_PATIENCE = 5.0
"""Seconds that a place waits for a handler to stop whose task was cancelled or has expired."""


class Attempt:
    """One attempt at a task, in the main loop."""

    def __init__(self, shop: Shop, envelope: Envelope, delivery: Delivery) -> None:
        self.shop, self.envelope, self.delivery = shop, envelope, delivery
        self.origin = Origin(envelope, shop.settings.worker)
        self._wrap = wrap_of(envelope, shop.habits)
        self._lack = find_lack(self._wrap)
        self._execution = Execution(shop, envelope)
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
        self._execution.release()

    def cancel(self, *, hard: bool = False) -> None:
        """Somebody cancelled the task: its end will meet the canceller's event."""
        self._execution.cancel(hard=hard)

    async def query(self, ask: QueryAsk) -> QueryAnswer:
        """Ask the handler."""
        return await self._execution.query(ask)

    def drop(self) -> None:
        """Let go of the message: its lease is no longer prolonged."""
        self.shop.board.leases.pop(self.delivery.reply, None)

    async def run(self) -> None:
        """Everything, in order. Returns when the slot is free again."""
        handler = self._find_handler()
        self._place = self.shop.limiter.place_of(self.envelope, handler)
        try:
            claim = await self._claim(handler)
            if claim is not None and handler is not None:
                await self._serve(handler, claim)
        finally:
            self.drop()
            await self._execution.leave()
            if handler is LEASE:
                self.shop.desk.forget(self.envelope.id)

    def _find_handler(self) -> Handler | None:
        """What it is for, if that is known here and its arguments can be read."""
        if is_lease(self.envelope):
            self.shop.desk.expect(self.envelope.id)
            return LEASE
        return None if self._lack else self.shop.handlers.get(self.envelope.handler)

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
                    decision = decide_claim(view, self.origin, self._poison_limit, utc_now())
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
        self._execution.start(handler, self._wrap, self.delivery.message.body, claim)
        await self._execution.wait()
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
        await self._execution.until_ended()

    async def _complete_what_fenced(self) -> None:
        """If an outcome stands, do what a redelivery would: a cancelled task leaves the queue now, not a lease later.

        Anything else in the log is somebody's claim of this very message, which we must not touch.
        """
        with contextlib.suppress(*PASSING):
            view = await self.shop.journal.read(self.envelope.id)
            decision = decide_claim(view, self.origin, self._poison_limit, utc_now())
            if isinstance(decision, Finish):
                await self._settle(decision.event)

    def _decide(self, handler: Handler) -> tuple[TaskEvent, Packed | None]:
        """The event of how it ended (and the result). Being cut short comes first if both happened."""
        now = utc_now()
        execution = self._execution
        if execution.cut is not None:
            expired = execution.cut == TaskState.EXPIRED
            return (make_expired(self.origin, now) if expired else make_released(self.origin, now)), None
        ended = execution.ended
        assert ended is not None, "the wait is over with the first of both"
        if execution.cancelled and ended.error is not None:
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
        if event.state in FINAL and self._may_have_spoken():
            self.shop.switchboard.forget(self.envelope.id)
        if self._place:
            # Whoever takes the place must not meet a handler that was told to stop and is still at it. One that
            # does not listen must not keep the place for ever.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._execution.until_ended(), PLACE_PATIENCE)
            await self.shop.limiter.leave(self._place, self.envelope.id, self.delivery.sequence)
        await self.shop.journal.acknowledge(self._reply())

    @property
    def _poison_limit(self) -> int:
        """A lease runs nothing by itself: however many workers were lost, it is not what kills them."""
        return sys.maxsize if is_lease(self.envelope) else self.shop.settings.poison_limit

    def _may_have_spoken(self) -> bool:
        """Whether signals or a checkpoint may be left: of this attempt, one before it, or of a task that never ran."""
        first = self.envelope.rank == (1, 0) and self.delivery.count == 1 and self._execution.started
        return self._execution.spoke or not first

    def _reply(self) -> str:
        return self.delivery.reply

    def _log(self) -> structlog.typing.FilteringBoundLogger:
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("millpond.worker")
        return logger.bind(task=self.envelope.id, handler=self.envelope.handler, attempt=self.envelope.attempt)
