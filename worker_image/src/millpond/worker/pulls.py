"""Gets messages from the pool's consumers, never more than there are free slots, urgent classes first.

Owns the pull requests (`MSG.NEXT`) and how many messages are still to come from each. With one class a single
long-poll asks for all free slots. With several, free slots are first offered class by class without waiting; then one
message of each class is awaited as a wake-up. It survives a lost connection (everything is asked again), a deleted
consumer (it asks again, more slowly, until it is back) and an answer that never comes (a pull ends by itself).
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from millpond_api import subjects

from millpond.transport import Message, Subscription, Transport
from millpond.worker.delivery import Delivery, is_delivery, parse_delivery

EXPIRES = 5.0
"""Seconds a pull waits at the server: short, because one that a lost connection swallowed blocks for that long."""
GATHER = 0.005
"""Seconds in which freed slots gather before a small pull is sent: one request for many instead of one each."""
TROUBLE = (0.25, 2.0)
"""Pause after a refusal (no such consumer, say), doubled up to the second figure."""


@dataclass(slots=True)
class _Pull:
    """A request at the server: `left` messages may still come."""

    left: int
    until: float
    done: asyncio.Event = field(default_factory=asyncio.Event)


class ClassPulls:
    """The pulls of one class."""

    def __init__(self, transport: Transport, stream: str, task_class: str, wake: asyncio.Event) -> None:
        self.task_class = task_class
        self.trouble = ""
        self._transport, self._wake = transport, wake
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{subjects.consumer(task_class)}"
        self._inbox = transport.new_inbox()
        self._ids = itertools.count()
        self._open: dict[str, _Pull] = {}
        self._subscription: Subscription | None = None
        self._on_delivery: Callable[[Delivery], None] = lambda _: None

    async def start(self, on_delivery: Callable[[Delivery], None]) -> None:
        self._on_delivery = on_delivery
        self._subscription = await self._transport.listen(f"{self._inbox}.*", self._on_message)

    async def stop(self) -> None:
        """When this returns, nothing more arrives: the server has dropped our pulls, the rest was delivered."""
        self.reset()
        if self._subscription:
            await self._subscription.drain()

    @property
    def outstanding(self) -> int:
        """Messages that may still come. A pull whose time is over (its answer was lost) no longer counts."""
        now = asyncio.get_running_loop().time()
        for name in [name for name, pull in self._open.items() if pull.until < now]:
            self._close(name)
        return sum(pull.left for pull in self._open.values())

    def reset(self) -> None:
        """Forget what was asked: the connection that asked is gone."""
        for name in list(self._open):
            self._close(name)

    async def ask(self, batch: int, *, wait: bool) -> _Pull | None:
        """Ask for up to `batch` messages; `wait` for them at the server, or take only what is there."""
        ask: dict[str, object] = {"batch": batch}
        ask |= {"expires": int(EXPIRES * 1e9)} if wait else {"no_wait": True}
        name = str(next(self._ids))
        if not await self._transport.send(self._subject, json.dumps(ask).encode(), reply=f"{self._inbox}.{name}"):
            return None
        pull = _Pull(batch, asyncio.get_running_loop().time() + (EXPIRES + 1.0 if wait else 2.0))
        self._open[name] = pull
        return pull

    def _on_message(self, message: Message) -> None:
        if is_delivery(message):
            self._count_down()
            self.trouble = ""
            self._on_delivery(parse_delivery(message))
        elif message.status != "100":
            self._close(message.subject.rpartition(".")[2])
            if message.status not in ("404", "408"):
                self.trouble = message.description.strip() or "no such stream or consumer"
            self._wake.set()

    def _count_down(self) -> None:
        """The server serves pulls in order, so a message belongs to the oldest one."""
        for name, pull in self._open.items():
            pull.left -= 1
            if pull.left <= 0:
                self._close(name)
            return

    def _close(self, name: str) -> None:
        pull = self._open.pop(name, None)
        if pull:
            pull.done.set()


class PullLoop:
    """Keeps the free slots offered. `wake` it whenever a slot is free or the connection is back."""

    def __init__(self, pulls: list[ClassPulls], slots: int, free: Callable[[], int], wake: asyncio.Event) -> None:
        self._pulls, self._free, self.wake = pulls, free, wake
        self._worth = max(1, slots // 8)
        self._gathered = False
        self._pause, self._troubled = TROUBLE[0], 0.0
        self._log = structlog.get_logger("millpond.worker")

    def reset(self) -> None:
        for pulls in self._pulls:
            pulls.reset()
        self.wake.set()

    async def run(self) -> None:
        offer = self._offer_one if len(self._pulls) == 1 else self._offer_in_order
        while True:
            self.wake.clear()
            await offer()
            await self._wait_out_trouble()
            try:
                # Also without a wake-up: a pull whose answer was lost is noticed only by looking.
                await asyncio.wait_for(self.wake.wait(), 1.0)
            except TimeoutError:
                self._gathered = True

    async def _offer_one(self) -> None:
        pulls = self._pulls[0]
        open_slots = self._free() - pulls.outstanding
        if open_slots <= 0:
            return
        if open_slots < self._worth and not self._gathered:
            self._gathered = True
            asyncio.get_running_loop().call_later(GATHER, self.wake.set)
            return
        self._gathered = False
        await pulls.ask(open_slots, wait=True)

    async def _offer_in_order(self) -> None:
        for pulls in self._pulls:
            free = self._free()
            if free <= 0:
                return
            pull = await pulls.ask(free, wait=False)
            if pull is None:
                return
            await self._until_closed(pulls, pull)
        for pulls in self._pulls:
            if self._free() > 0 and pulls.outstanding == 0:
                await pulls.ask(1, wait=True)

    async def _until_closed(self, pulls: ClassPulls, pull: _Pull) -> None:
        try:
            await asyncio.wait_for(pull.done.wait(), 2.0)
        except TimeoutError:
            pulls.reset()

    async def _wait_out_trouble(self) -> None:
        """Ask more slowly while the server refuses, and say why, once."""
        trouble = next((f"class {p.task_class}: {p.trouble}" for p in self._pulls if p.trouble), "")
        if not trouble:
            return
        now = asyncio.get_running_loop().time()
        if now - self._troubled > 2 * EXPIRES:
            self._pause = TROUBLE[0]
        self._troubled = now
        if self._pause == TROUBLE[0]:
            self._log.warning("the queue cannot be read; asking again", why=trouble)
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, TROUBLE[1])
        for pulls in self._pulls:
            pulls.trouble = ""
        self.wake.set()
