"""Keeps the free slots offered to the pool's queue, never more than there are.

Owns when to ask. A pool with one class asks with a single long poll for all free slots: nothing else is decided and no
request is added. With several classes, or with fairness, the agenda says which lines to ask, without waiting; when none
has anything, a long poll of one message waits at each class and is taken back as soon as the slots are full, so that
no task lies at a worker that has no slot for it. It survives a lost connection (everything is asked again) and a queue
that was deleted (it asks again, more slowly, until it is back).
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from millpond_api import subjects
from millpond_api.broker import QueueConfig

from millpond.pausing import happens
from millpond.settings import Settings
from millpond.transport import Transport, TransportError
from millpond.worker.agenda import Agenda, Line
from millpond.worker.delivery import Delivery
from millpond.worker.lanes import LaneWatch, Pool
from millpond.worker.pulls import EXPIRES, Pull, Puller
from millpond.worker.turns import Turns

GATHER = 0.005
"""Seconds in which freed slots gather before a small pull is sent: one request for many instead of one each."""
TROUBLE = (0.25, 2.0)
"""Pause after a refusal (no such consumer, say), doubled up to the second figure."""
LOOK = 1.0
"""Seconds until the loop looks by itself: a pull whose answer was lost is noticed only by looking."""
IDLE_PROBES = 16
"""Lanes that an idle worker asks after a look although they seem to hold only what is in flight: what a lost worker
had, or what came and went between two looks."""


@dataclass
class Slots:
    """How many slots the worker has, and how many of them are free now."""

    total: int
    free: Callable[[], int]
    wake: asyncio.Event
    """Set whenever a slot is free, a pull has ended or the connection is back."""


@dataclass
class _Patience:
    """Asks more slowly while the server refuses, and says why, once."""

    pause: float = TROUBLE[0]
    troubled: float = 0.0
    log: structlog.typing.FilteringBoundLogger = field(default_factory=lambda: structlog.get_logger("millpond.worker"))

    async def wait_out(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self.troubled > 2 * EXPIRES:
            self.pause = TROUBLE[0]
        self.troubled = now
        if self.pause == TROUBLE[0]:
            self.log.warning("the queue cannot be read; asking again", why=why)
        await asyncio.sleep(self.pause)
        self.pause = min(self.pause * 2, TROUBLE[1])


class Offering:
    """The loop that offers. `lines` says how: one line by long polls, several by an agenda."""

    def __init__(self, puller: Puller, slots: Slots, lines: "OneLine | ManyLines") -> None:
        self._puller, self._slots, self._lines = puller, slots, lines
        self.reset = puller.reset
        """Forget what was asked: the connection that asked is gone."""
        self._patience = _Patience()
        self._worth = max(1, slots.total // 8)
        self._gathered = False

    async def start(self, on_delivery: Callable[[Delivery], None]) -> None:
        """Before `run`: who takes what arrives."""
        await self._puller.start(on_delivery)
        await self._lines.start()

    async def stop(self) -> None:
        """For good, once `run` was cancelled: when this returns, nothing more arrives."""
        await self._lines.stop()
        await self._puller.stop()

    async def run(self) -> None:
        while True:
            self._slots.wake.clear()
            if self._is_worth_it():
                await self._lines.offer()
            if self._puller.trouble:
                await self._patience.wait_out(self._puller.trouble)
                self._puller.trouble = ""
                continue
            if not await happens(self._slots.wake, LOOK):
                self._gathered = True

    def _is_worth_it(self) -> bool:
        """Few freed slots gather for a moment. With none free there is something to take back instead."""
        slots = self._slots.free() - self._lines.offered
        if 0 < slots < self._worth and not self._gathered:
            self._gathered = True
            asyncio.get_running_loop().call_later(GATHER, self._slots.wake.set)
            return False
        self._gathered = False
        return True


class OneLine:
    """One class without lanes."""

    def __init__(self, puller: Puller, slots: Slots, task_class: str) -> None:
        self._puller, self._slots, self._line = puller, slots, Line(task_class)

    async def start(self) -> None:
        """Nothing to prepare."""

    async def stop(self) -> None:
        """Nothing to end."""

    @property
    def offered(self) -> int:
        return self._puller.outstanding

    async def offer(self) -> None:
        slots = self._slots.free() - self._puller.outstanding
        if slots > 0:
            await self._puller.ask(self._line, slots, wait=True)


class ManyLines:
    """Several classes, or lanes. `watch` is None in a pool that never was fair between keys."""

    def __init__(self, puller: Puller, slots: Slots, agenda: Agenda, watch: LaneWatch | None = None) -> None:
        self._puller, self._slots, self._agenda, self._watch = puller, slots, agenda, watch
        self._served = False

    async def start(self) -> None:
        if self._watch:
            await self._watch.start()

    async def stop(self) -> None:
        if self._watch:
            await self._watch.stop()

    @property
    def offered(self) -> int:
        """Pulls that wait are extra: they are taken back when the slots are full."""
        return 0

    async def offer(self) -> None:
        """Fill the free slots; wait for tasks with those that stay free."""
        for name in self._agenda.classes:
            self._agenda.watch(name, watched=self._puller.is_waiting(Line(name)))
        probes = await self._look() if self._watch else 0
        self._served = False
        clock = asyncio.get_running_loop().time
        while (free := self._slots.free()) > 0:
            plan = self._agenda.plan(free, clock(), probes=probes)
            if not plan:
                break
            probes = 0
            if not await self._take(plan):
                return
        await (self._wait_for_tasks() if self._slots.free() > 0 else self._wait_for_slots())

    async def _look(self) -> int:
        """Keep the view of the lanes fresh; how many lanes that are probably empty to ask as well.

        One for a slot that was freed. Of idle workers only the one whose turn it was to look.
        """
        assert self._watch
        asked = await self._watch.refresh() if self._slots.free() > 0 else False
        return 1 if self._served else IDLE_PROBES * asked

    async def _take(self, plan: dict[Line, int]) -> bool:
        """Ask for what is planned and note what came; False when asking on makes no sense now."""
        asked = [await self._puller.ask(line, count, wait=False) for line, count in plan.items()]
        pulls = [pull for pull in asked if pull]
        if len(pulls) < len(plan):
            return False
        await self._puller.until_closed(pulls)
        for pull in pulls:
            if pull.missing and self._watch:
                await self._make_lane(self._watch, pull)
            else:
                self._agenda.note(pull.line, pull.asked, pull.got, asyncio.get_running_loop().time())
            self._served |= pull.got > 0
        return not self._puller.trouble

    async def _make_lane(self, watch: LaneWatch, pull: Pull) -> None:
        """The first task of a lane: its consumer is made, and the lane is asked again."""
        try:
            await watch.ensure(pull.line)
        except TransportError as error:
            self._puller.trouble = f"lane {pull.line.lane} of class {pull.line.task_class}: {error}"

    async def _wait_for_tasks(self) -> None:
        await self._puller.open_waiting()
        for name in self._agenda.classes:
            if not self._puller.is_waiting(Line(name)):
                await self._puller.ask(Line(name), 1, wait=True)
                self._agenda.watch(name, watched=True)
        if self._watch:
            await self._watch.listen()

    async def _wait_for_slots(self) -> None:
        """No slot is free: what a waiting pull would bring has to run elsewhere."""
        self._puller.close_waiting()
        if self._watch:
            await self._watch.hush()


def make_offering(transport: Transport, settings: Settings, slots: Slots, *, once_fair: bool) -> Offering:
    """The offering of one worker. `once_fair`: the queue has lanes or had some, so they are looked at."""
    queue = QueueConfig(settings.namespace, settings.pool, settings.classes, lease=settings.lease)
    puller = Puller(transport, subjects.pool_stream(settings.namespace, settings.pool), slots.wake)
    fair = settings.fair_lanes > 0
    if len(settings.classes) == 1 and not fair and not once_fair:
        return Offering(puller, slots, OneLine(puller, slots, settings.classes[0]))
    # A random place in the cycle: workers that start together must not all begin with the same class.
    turns = Turns(settings.shares, strict=settings.priority == "Strict", phase=random.random())
    agenda = Agenda(turns, settings.classes)
    watch = LaneWatch(transport, Pool(queue, fair), agenda, slots.wake) if fair or once_fair else None
    return Offering(puller, slots, ManyLines(puller, slots, agenda, watch))
