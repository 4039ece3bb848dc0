"""One lease at the worker that holds it: its calls, one at a time in order of arrival, and its end. Main loop.

Owns the lease's state, its line of calls and its times; `leasing` decides. To the attempt it is the run of a handler
(`calling.Run`) that ends with a verdict, so claiming, fencing, acks, drain and release are a task's. It must not end
before what runs for it has ended: only then does its slot serve somebody else. It survives an owner that is killed (no
word for the TTL), one that asks twice (a call runs once), and code that does not stop.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace

from millpond_api.envelope import Envelope
from millpond_api.events import Parcel, TaskError, utc_now
from millpond_api.leases import REFUSED, RESEND, STALE, LeaseAnswer, LeaseAsk
from millpond_api.lifecycle import TaskState

from millpond.context import Lease
from millpond.leasing import CHECKED_IN, Terms, decide_end, find_refusal, next_look, open_tenure, renew
from millpond.outcomes import Ended, Verdict
from millpond.packing import wrap_of
from millpond.pausing import happens
from millpond.registry import Handler
from millpond.talking import Word
from millpond.timeouts import choose_isolation, choose_limits
from millpond.transport import Refused
from millpond.worker.board import Running
from millpond.worker.calling import Job
from millpond.worker.errand import Errand, Order
from millpond.worker.shop import Shop

HOOK_TIME = 30.0
"""Seconds that what opens or closes a lease may take where the pool has no hard timeout."""


@dataclass(eq=False)
class _Call:
    """A call in the line, or its answer for whoever asks again."""

    number: int
    order: Order
    answer: "asyncio.Future[LeaseAnswer]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def reply(self, answer: LeaseAnswer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class Tenancy:
    """The lease. `done` of its job hears the verdict once everything that ran for it has ended."""

    killable = False

    def __init__(self, shop: Shop, job: Job) -> None:
        self._shop, self._job = shop, job
        self._lease = Lease(job.envelope.id, job.claim, job.envelope.owner, {})
        self._terms = Terms(shop.settings.leases.ttl, shop.settings.leases.max_duration)
        self._clock = asyncio.get_running_loop().time
        self._tenure = open_tenure(self._terms, self._clock())
        self._line: deque[_Call] = deque()
        self._calls: dict[int, _Call] = {}
        self._seen = 0
        self._current: tuple[_Call | None, Errand] | None = None
        self._verdict: Verdict | None = None
        self._news, self._opened, self._ending = asyncio.Event(), asyncio.Event(), asyncio.Event()

    # ---- what its owner asks

    async def renew(self, ask: LeaseAsk) -> LeaseAnswer:
        """The owner lives; answered once the lease is open."""
        if refused := self._admit(ask):
            return refused
        await self._opened.wait()
        return self._admit(ask) or LeaseAnswer(ttl=self._terms.ttl)

    async def call(self, ask: LeaseAsk, envelope: Envelope | None, body: bytes) -> LeaseAnswer:
        """The answer of call `ask.call`, which runs once however often it is asked for."""
        if refused := self._admit(ask):
            return refused
        for number in [number for number in self._calls if number <= ask.seen]:
            del self._calls[number]
        self._seen = max(self._seen, ask.seen)
        known = self._calls.get(ask.call)
        if known is None:
            if ask.call <= self._seen:
                return LeaseAnswer(ok=False, code=REFUSED, message=f"call {ask.call} has been answered before")
            if envelope is None:
                return LeaseAnswer(ok=False, code=RESEND, message="the arguments of this call have not arrived")
            handler = self._shop.handlers.get(envelope.handler)
            if handler is None or (why := self._find_obstacle(handler)):
                why = why if handler else self._name_missing(envelope.handler)
                return LeaseAnswer(ok=False, code=REFUSED, message=why)
            known = self._calls[ask.call] = _Call(ask.call, self._make_order(handler, envelope, body))
            self._line.append(known)
            self._news.set()
        return await asyncio.shield(known.answer)

    def drop(self, ask: LeaseAsk) -> LeaseAnswer:
        """Nobody waits for this call any more: it does not begin, or is stopped."""
        if refused := self._admit(ask):
            return refused
        # Not by what is kept for those who ask again: this call may count as answered by now.
        if self._current and self._current[0] and self._current[0].number == ask.call:
            self._current[1].stop()
        for known in [call for call in self._line if call.number == ask.call]:
            self._line.remove(known)
            known.reply(LeaseAnswer(ok=False, code=REFUSED, message="its caller took it back before it began"))
        return LeaseAnswer(ttl=self._terms.ttl)

    def check_in(self, ask: LeaseAsk) -> LeaseAnswer:
        """The owner has done with it."""
        refused = self._admit(ask)
        if refused is None:
            self.end(CHECKED_IN)
        return refused or LeaseAnswer()

    def end(self, verdict: Verdict) -> None:
        """The first verdict stands: nothing begins any more, what runs is asked to stop."""
        if self._verdict is not None:
            return
        self._verdict = verdict
        self._news.set()
        self._ending.set()
        if self._current:
            self._current[1].stop()

    def _admit(self, ask: LeaseAsk) -> LeaseAnswer | None:
        """A refusal, or None: it is the owner, who has been heard."""
        if why := find_refusal(ask, self._lease.token, self._verdict):
            return LeaseAnswer(ok=False, code=STALE, message=why)
        self._tenure = renew(self._tenure, self._terms, self._clock())
        return None

    # ---- as the run of a task

    def cancel(self) -> None:
        """The task was cancelled (the client withdrew), or the worker gives it back."""
        self.end(Verdict(TaskState.CANCELLED, "Withdrawn", "it was withdrawn, or its worker stopped"))

    def interrupt(self, error: Exception) -> None:
        """A lease has no soft timeout; its calls have their own."""

    def kill(self) -> None:
        """As `cancel`: what runs for it is ended by force when it does not listen."""
        self.cancel()

    async def settle(self) -> None:
        """Nothing of it can be in the way of another task."""

    def tell(self, word: Word) -> bool:
        """A lease itself has no handler that could hear."""
        return False

    def where(self) -> str:
        return f"leased to {self._lease.owner}"

    # ---- its life

    async def live(self) -> None:
        """From its opening to its end."""
        timing = asyncio.create_task(self._keep_time())
        hooks = self._shop.lease_hooks
        for handler in hooks.opened:
            if self._verdict is None and (error := await self._run_hook(handler)):
                why = f"{handler.name} failed with {error.type}: {error.message}"
                self.end(Verdict(TaskState.CANCELLED, "OpenFailed", why))
        self._opened.set()
        while self._verdict is None:
            self._news.clear()
            if self._line:
                await self._serve(self._line.popleft())
            else:
                await self._news.wait()
        for call in self._line:
            call.reply(LeaseAnswer(ok=False, code=STALE, message=f"the lease has ended ({self._verdict.reason})"))
        for handler in reversed(hooks.closed):
            if error := await self._run_hook(handler):
                said = f"{handler.name} failed at the end of lease {self._lease.id}: {error.type}: {error.message}"
                self._shop.note("LeaseCloseFailed", said)
        await timing
        self._job.done(Ended(verdict=self._verdict))

    async def _keep_time(self) -> None:
        """Look whenever the lease may be over."""
        while self._verdict is None:
            planned = next_look(self._tenure, self._terms)
            if await happens(self._ending, max(0.0, planned - self._clock())):
                return
            # What has arrived by now is heard first: this loop may have been held up.
            await asyncio.sleep(0)
            found = decide_end(self._tenure, self._terms, planned, self._clock())
            if isinstance(found, Verdict):
                self.end(found)
            else:
                self._tenure = found

    async def _serve(self, call: _Call) -> None:
        ended = await self._run(call.order, call)
        try:
            call.reply(await self._make_answer(ended))
        except Refused as error:
            message = f"NATS refused its result: {error}"
            call.reply(LeaseAnswer(error=TaskError(type="ResultRefused", message=message, retryable=False)))

    async def _make_answer(self, ended: Ended) -> LeaseAnswer:
        if ended.result is None:
            return LeaseAnswer(ttl=self._terms.ttl, error=ended.error or _name_wish(ended))
        parcel: Parcel | None = None
        if ended.result.body != b"null":
            wanted = self._shop.settings.results
            parcel = await self._shop.journal.make_parcel(self._lease.id, ended.result, wanted, utc_now())
        return LeaseAnswer(ttl=self._terms.ttl, parcel=parcel)

    async def _run_hook(self, handler: Handler) -> TaskError | None:
        """Run it; its error, if it has one. It has a time whatever the pool says: a slot waits for it."""
        envelope = Envelope(id=self._lease.id, handler=handler.name, enqueued=utc_now())
        order = self._make_order(handler, envelope, b"")
        limits = replace(order.limits, hard=order.limits.hard or HOOK_TIME)
        return (await self._run(replace(order, limits=limits), None)).error

    async def _run(self, order: Order, call: _Call | None) -> Ended:
        shop = self._shop
        running = Running(self._lease.id, order.handler.name, 1, "", utc_now())
        context = shop.context_of(order.envelope, running)
        context.lease = self._lease
        errand = Errand(order, context, running.control, shop.note)
        self._current = (call, errand)
        try:
            return await errand.run(shop.executors)
        finally:
            self._current = None

    def _make_order(self, handler: Handler, envelope: Envelope, body: bytes) -> Order:
        limits = choose_limits(envelope, handler, self._shop.settings)
        return Order(handler, envelope, wrap_of(envelope, self._shop.habits), body, limits)

    def _find_obstacle(self, handler: Handler) -> str:
        if choose_isolation(handler, self._shop.settings.isolation) != "process":
            return ""
        return (
            f"handler {handler.name!r} runs in a process of its own (isolation: process), where the state of a lease "
            "does not reach: register it with isolation='thread' or 'inline', or submit it as a task"
        )

    def _name_missing(self, name: str) -> str:
        have = ", ".join(self._shop.handlers.names())
        return f"worker {self._shop.settings.worker} has no handler {name!r}: it has {have}"


def _name_wish(ended: Ended) -> TaskError:
    """A call cannot be put off or cancelled as a task can."""
    wish = "Snooze" if ended.snooze is not None else "Cancel"
    said = ended.verdict.message if ended.verdict else ended.reason
    return TaskError(type=wish, message=said or f"{wish} has no meaning in a call of a lease", retryable=False)
