"""One rate, shared by all workers of the pool: gives each start that is asked for here the time when it may take place.

Owns the reservations of this worker for one rate: everything that asks while a reservation is under way shares the
next one, so a busy rate costs one compare-and-set for many starts. The state holds no clock but the server's own
(`millpond_api.limits.RateState`), so nothing is lost or given twice by a restart, and workers need not agree on the
time. What a crashed worker had reserved is lost: starts that nobody makes, never more than its slots. An answer that is
lost costs its reservation too: fewer starts, never more.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from millpond_api.limits import Due, RateState, ask, next_due, room, start_times

from millpond.limiting import RateDemand
from millpond.limitstore import LimitStore
from millpond.transport import Fenced, TransportError
from millpond.worker.journal import Pause

KEEP = 60.0
"""Seconds that the state stays after its last reservation lies in the past, when it no longer means anything."""


@dataclass
class Turnstile:
    """`take` a start."""

    store: LimitStore
    demand: RateDemand
    log: Any
    _asking: "list[tuple[float, asyncio.Future[float]]]" = field(default_factory=list)
    """Since when the task of each ask has waited, and the ask."""
    _reserving: "asyncio.Task[None] | None" = None
    _known: tuple[int, Due] | None = None
    """Sequence and what is due after it, where both are certain."""
    _tat: float = 0.0
    """The last theoretical arrival time that was heard of; others may have moved it on."""

    async def take(self, since: float = float("inf")) -> float:
        """Epoch seconds (the server's) when this start may take place; waits as long as NATS is away.

        `since`: when its task came. Starts that nobody used from then on may be made up for.
        """
        asked: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._asking.append((since, asked))
        if self._reserving is None:
            self._reserving = asyncio.create_task(self._serve(), name=f"millpond-rate {self.demand.name}")
        return await asked

    @property
    def idle(self) -> bool:
        """Whether nothing would be forgotten with this object but what the broker knows."""
        return self._reserving is None and (not self.store.clock.known or self._tat < self.store.clock.now())

    def wait(self) -> float:
        """Seconds until the next start could take place, as far as is known here; 0 when at once."""
        if not self.store.clock.known:
            return 0.0
        return max(0.0, self._tat - self.demand.rate.tolerance - self.store.clock.now())

    def room(self, ahead: float) -> int:
        """How many more starts could be reserved here that take place within `ahead` seconds."""
        now = self.store.clock.now() if self.store.clock.known else self._tat
        return max(0, room(self.demand.rate, max(self._tat, now), now + ahead) - len(self._asking))

    async def _serve(self) -> None:
        try:
            while self._asking:
                asking = list(self._asking)
                starts = await self._reserve(len(asking), min(since for since, _ in asking))
                del self._asking[: len(asking)]
                for (_, asked), start in zip(asking, starts, strict=True):
                    if not asked.done():
                        asked.set_result(start)
        finally:
            self._reserving = None

    async def _reserve(self, count: int, since: float) -> list[float]:
        """The times of `count` starts, once the server has stored that they are taken."""
        pause = Pause()
        while True:
            try:
                return await self._try(count, since)
            except Fenced:
                continue  # another worker reserved: on top of its reservation
            except TransportError as error:
                self.log.warning("a rate is not confirmed; trying again", rate=self.demand.name, why=str(error))
            await pause.wait()

    async def _try(self, count: int, since: float) -> list[float]:
        clock, rate = self.store.clock, self.demand.rate
        await clock.sync()
        sequence, due = self._known or await self._read()
        self._known = None
        now = clock.now()
        state = ask(due, rate, count, waited=max(0.0, now - since), key=self.demand.name)
        ttl = max(0.0, due.tat - now) + count * rate.interval + KEEP
        stored = await self.store.swap("rate", self.demand.name, state, sequence, ttl)
        now = clock.now()
        after = next_due(state, now)
        self._tat = after.tat
        if due.tat >= clock.latest():
            # Stored before its theoretical time: what comes after it is known to the bit without reading.
            self._known = (stored, after)
        return start_times(rate, state, now)

    async def _read(self) -> tuple[int, Due]:
        found = await self.store.read("rate", self.demand.name, RateState)
        if found.state is None:
            return found.sequence, Due()
        due = next_due(found.state, found.stored)
        self._tat = max(self._tat, due.tat)
        return found.sequence, due
