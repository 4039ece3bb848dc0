"""Between a delivery and its claim: waits for the task's rates, takes its place, or says that it has to make way.

Owns the order in which a worker asks the limits (the task's own rates, its place, the pool's rate) and what waits
where: a moment (`HOLD`) in its slot; longer for a rate of its own in MILLPOND_DELAYED, for a place in MILLPOND_PARKED,
both with the attempt refunded, so that tasks of other keys pass; for the pool's rate in the queue itself, because then
nobody may start: the worker does not pull (`room`). It asks nobody for a task that has no limits.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from millpond_api.envelope import Envelope
from millpond_api.events import TaskEvent, utc_now
from millpond_api.limits import KeyPolicy, Places, PoolLimits

from millpond.limiting import (
    POOL,
    PlaceDemand,
    RateDemand,
    make_outdone,
    make_parked,
    make_put_off,
    own_rates,
    place_demand,
    still_demanded,
)
from millpond.limitstore import LimitStore
from millpond.outcomes import Origin
from millpond.registry import Handler, Registry
from millpond.worker.delivery import Delivery
from millpond.worker.journal import Journal
from millpond.worker.places import PlaceKeeper
from millpond.worker.turnstile import Turnstile

HOLD = 2.0
"""Seconds that a task may wait in its slot for a start: shorter than putting it aside and getting it back is worth."""
AHEAD = 0.25
"""Seconds that starts are reserved before they take place: hides pull and reservation, some 5 to 50 ms."""
NOTICEABLE = AHEAD / 2
"""Seconds of wait that say that the rate binds: starts are asked for at most AHEAD before their time."""
TURNSTILES = 4096
"""Rates that a worker keeps in mind; those that rest are forgotten first, the broker knows them."""

Cancel = Callable[[str, str], Awaitable[object]]
"""Cancel a task of this pool: its id and why."""


@dataclass(frozen=True, slots=True)
class LimitHooks:
    """What a limiter has others do: cancel a task, look for room again, and say that the pool's rate holds it back."""

    cancel: Cancel
    wake: Callable[[], None]
    note_limited: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: hand the message back for so many seconds. Nothing was written."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Instead:
    """Commit this event instead of the claim: put aside (`aside`), or cancelled by its key's policy."""

    event: TaskEvent


@dataclass(slots=True)
class Entry:
    """One delivery on its way to its claim. `paid`: the rates that it has waited for; they are not asked twice."""

    origin: Origin
    handler: Handler
    delivery: Delivery
    paid: set[str] = field(default_factory=set)

    @property
    def envelope(self) -> Envelope:
        return self.origin.envelope


class Limiter:
    """The limits of one worker's pool."""

    def __init__(self, journal: Journal, limits: PoolLimits, handlers: Registry, hooks: LimitHooks) -> None:
        self._limits, self._handlers = limits, handlers
        self._cancel, self._wake, self._note_limited = hooks.cancel, hooks.wake, hooks.note_limited
        self._journal, self._log = journal, journal.log
        self._store = LimitStore(journal.transport, journal.namespace, journal.pool)
        self._places = PlaceKeeper(self._store, self._log)
        self._turnstiles: OrderedDict[str, Turnstile] = OrderedDict()
        self._pool = Turnstile(self._store, RateDemand(POOL, limits.rate), self._log) if limits.rate else None
        self._opening: asyncio.TimerHandle | None = None

    def place_of(self, envelope: Envelope, handler: Handler | None) -> PlaceDemand | None:
        return place_demand(envelope, handler, self._limits) if handler else None

    def room(self, free: int) -> int:
        """How many messages are worth pulling for `free` slots; wakes the pulls when there may be more."""
        if self._pool is None or free <= 0:
            return free
        found = self._pool.room(AHEAD)
        if found <= 0 and self._opening is None:
            wait = max(0.005, self._pool.wait() - AHEAD)
            self._opening = asyncio.get_running_loop().call_later(wait, self._open)
        return min(free, found)

    def _open(self) -> None:
        self._opening = None
        self._wake()

    def is_concerned(self, envelope: Envelope, handler: Handler) -> bool:
        """Whether there is anything to ask for this task."""
        limits = self._limits
        return bool(
            self._pool
            or handler.rate
            or handler.concurrency
            or (envelope.rate_key and limits.per_key)
            or (envelope.key and limits.places)
        )

    async def enter(self, entry: Entry) -> Later | Instead | None:
        """None: it may be claimed now."""
        for demand in own_rates(entry.envelope, entry.handler, self._limits):
            put_off = await self._wait_own(entry, demand)
            if put_off:
                return put_off
        place = self.place_of(entry.envelope, entry.handler)
        if place:
            make_way = await self._enter_place(entry, place)
            if make_way:
                return make_way
        return await self._wait_pool(entry) if self._pool else None

    async def put_aside(self, envelope: Envelope, event: TaskEvent, delivery: Delivery) -> None:
        """The consequence of an event that put this message aside; may be repeated."""
        assert event.aside is not None
        msg_id, handler = f"{envelope.id}.aside.{event.sequence}", self._handlers.get(envelope.handler)
        if event.aside.key:
            # Without its handler (another version of the app put it aside) one place is the safe guess.
            place = self.place_of(envelope, handler) or PlaceDemand(event.aside.key, envelope.key, Places())
            await self._journal.until_done("parking", lambda: self._park(place, envelope, delivery, msg_id))
        else:
            waiting = envelope.model_copy(update={"passes": event.aside.passes})
            await self._journal.schedule(waiting, event.next_at or event.at, delivery, msg_id)
            if held := self.place_of(envelope, handler):
                # Handed to it while it stood in the line: nobody else would free it if the task were cancelled now.
                await self.leave(held, envelope.id, delivery.sequence)

    async def leave(self, place: PlaceDemand, task: str, message: int) -> None:
        """The task has ended, or waits elsewhere: the place that it had by this message is free."""
        await self._journal.until_done("giving a place back", lambda: self._places.leave(place, task, message))

    async def _wait_own(self, entry: Entry, demand: RateDemand) -> Instead | None:
        """Wait for a rate of the task's own; longer than HOLD it waits aside, with its start reserved."""
        if demand.name in entry.paid:
            return None
        clock = self._store.clock
        await clock.sync()
        wanted = still_demanded(demand, entry.envelope.passes, clock.now())
        if wanted:
            start = await self._turnstile(wanted).take()
            wait = start - clock.now()
            if wait > HOLD:
                message = entry.delivery.sequence
                return Instead(make_put_off(entry.origin, wanted, start, message, utc_now()))
            await asyncio.sleep(max(0.0, wait))
        entry.paid.add(demand.name)
        return None

    async def _wait_pool(self, entry: Entry) -> Later | None:
        assert self._pool is not None
        if POOL in entry.paid:
            return None
        wait = self._pool.wait()
        if wait > HOLD:
            self._note_limited()
            # Back a little before its time: what was handed back is delivered first, so it keeps its place.
            return Later(wait - HOLD / 2)
        start = await self._pool.take(entry.delivery.stored)
        entry.paid.add(POOL)
        wait = start - self._store.clock.now()
        if wait > NOTICEABLE:
            self._note_limited()
        await asyncio.sleep(max(0.0, wait))
        return None

    async def _enter_place(self, entry: Entry, place: PlaceDemand) -> Instead | None:
        envelope, message = entry.envelope, entry.delivery.sequence
        full = await self._places.enter(place, envelope.id, message)
        if full is None:
            if place.policy is KeyPolicy.CANCEL_RUNNING and await self._places.first_in_line(place):
                return Instead(make_outdone(entry.origin, place, "a newer task of its key came", utc_now()))
            return None
        if place.policy is KeyPolicy.CANCEL_NEWEST:
            why = f"task {full.holders[0].task} runs"
            return Instead(make_outdone(entry.origin, place, why, utc_now()))
        return Instead(make_parked(entry.origin, place, full, message, utc_now()))

    async def _park(self, place: PlaceDemand, envelope: Envelope, delivery: Delivery, msg_id: str) -> None:
        """Into the line; and under cancel-running an end to whoever is before it, seen from within the line.

        Not before: a place that passed on in between would be held by somebody that nobody tells.
        """
        await self._places.park(place, delivery, msg_id)
        if place.policy is KeyPolicy.CANCEL_RUNNING:
            for holder in await self._places.holders(place):
                if holder.task != envelope.id:
                    await self._cancel(holder.task, f"task {envelope.id} of the same key {place.key} came")

    def _turnstile(self, demand: RateDemand) -> Turnstile:
        """This rate's turnstile, made when it is first asked for."""
        found = self._turnstiles.get(demand.name)
        if found is None or found.demand.rate != demand.rate:
            found = self._turnstiles[demand.name] = Turnstile(self._store, demand, self._log)
        self._turnstiles.move_to_end(demand.name)
        if len(self._turnstiles) > TURNSTILES:
            oldest = next(iter(self._turnstiles))
            if self._turnstiles[oldest].idle:
                del self._turnstiles[oldest]
            else:
                self._turnstiles.move_to_end(oldest)
        return found
