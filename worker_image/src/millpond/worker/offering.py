"""Keeps the free slots offered to the pool's queue, never more than there are.

Owns when to ask. A pool with one class asks with a single long poll for all free slots: nothing else is decided and no
request is added. With several classes, or with fairness, the agenda says which lines to ask, without waiting; when none
has anything, a long poll of one message waits at each class and is taken back as soon as the slots are full, so that
no task lies at a worker that has no slot for it. It survives a lost connection (everything is asked again) and a queue
that was deleted (it asks again, more slowly, until it is back).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from millpond.worker.agenda import Agenda, Line
from millpond.worker.pulls import EXPIRES, Pull, Puller

GATHER = 0.005
"""Seconds in which freed slots gather before a small pull is sent: one request for many instead of one each."""
TROUBLE = (0.25, 2.0)
"""Pause after a refusal (no such consumer, say), doubled up to the second figure."""
LOOK = 1.0
"""Seconds until the loop looks by itself: a pull whose answer was lost is noticed only by looking."""


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
        self._patience = _Patience()
        self._worth = max(1, slots.total // 8)
        self._gathered = False

    async def run(self) -> None:
        while True:
            self._slots.wake.clear()
            if self._is_worth_it():
                await self._lines.offer()
            if self._puller.trouble:
                await self._patience.wait_out(self._puller.trouble)
                self._puller.trouble = ""
                continue
            try:
                await asyncio.wait_for(self._slots.wake.wait(), LOOK)
            except TimeoutError:
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

    @property
    def offered(self) -> int:
        return self._puller.outstanding

    async def offer(self) -> None:
        slots = self._slots.free() - self._puller.outstanding
        if slots > 0:
            await self._puller.ask(self._line, slots, wait=True)


class ManyLines:
    """Several classes."""

    def __init__(self, puller: Puller, slots: Slots, agenda: Agenda, classes: tuple[str, ...]) -> None:
        self._puller, self._slots, self._agenda = puller, slots, agenda
        self._classes = classes

    @property
    def offered(self) -> int:
        return 0

    async def offer(self) -> None:
        """Fill the free slots; wait for tasks with those that stay free."""
        for name in self._classes:
            self._agenda.watch(name, watched=self._puller.is_waiting(Line(name)))
        clock = asyncio.get_running_loop().time
        while (free := self._slots.free()) > 0:
            plan = self._agenda.plan(free, clock())
            if not plan:
                break
            pulls = await self._ask(plan)
            if len(pulls) < len(plan):
                return
            await self._puller.until_closed(pulls)
            for pull in pulls:
                self._agenda.note(pull.line, pull.asked, pull.got, clock())
            if self._puller.trouble:
                return
        await (self._wait_for_tasks() if self._slots.free() > 0 else self._wait_for_slots())

    async def _ask(self, plan: dict[Line, int]) -> list[Pull]:
        asked = [await self._puller.ask(line, count, wait=False) for line, count in plan.items()]
        return [pull for pull in asked if pull]

    async def _wait_for_tasks(self) -> None:
        await self._puller.open_waiting()
        for name in self._classes:
            if not self._puller.is_waiting(Line(name)):
                await self._puller.ask(Line(name), 1, wait=True)
                self._agenda.watch(name, watched=True)

    async def _wait_for_slots(self) -> None:
        """No slot is free: what a waiting pull would bring has to run elsewhere."""
        self._puller.close_waiting()
