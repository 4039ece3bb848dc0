"""Pull requests at the pool's consumers: sent, counted down, closed.

Owns the requests (`MSG.NEXT`) of one worker, how many messages are still to come from each, and which line an arrived
message belongs to. It must not decide what to ask for: `offering` does. It survives a lost connection (everything is
forgotten and asked again), a consumer that is not there (`missing`), and an answer that never comes (a pull ends by
itself after its time).
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from millpond_api import subjects

from millpond.transport import Message, Subscription, Transport
from millpond.worker.agenda import Line
from millpond.worker.delivery import Delivery, is_delivery, parse_delivery

EXPIRES = 5.0
"""Seconds a pull waits at the server: short, because one that a lost connection swallowed blocks for that long."""
ANSWER = 2.0
"""Seconds within which a pull that does not wait is answered, or counts as lost."""


@dataclass(slots=True)
class Pull:
    """A request at the server: of `asked` messages `left` may still come."""

    line: Line
    asked: int
    left: int
    until: float
    waits: bool
    missing: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def got(self) -> int:
        return self.asked - self.left


class Puller:
    """All pulls of one worker. `wake` is set when one ends; `trouble` says why the server refuses, if it does."""

    def __init__(self, transport: Transport, stream: str, wake: asyncio.Event) -> None:
        self.trouble = ""
        self._transport, self._stream, self._wake = transport, stream, wake
        self._ids = itertools.count()
        self._open: dict[str, Pull] = {}
        self._lines: dict[str, Line] = {}
        self._inbox, self._waiting = transport.new_inbox(), ""
        self._subscriptions: dict[str, Subscription] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._on_delivery: Callable[[Delivery], None] = lambda _: None

    async def start(self, on_delivery: Callable[[Delivery], None]) -> None:
        self._on_delivery = on_delivery
        await self._listen(self._inbox)

    async def stop(self) -> None:
        """When this returns, nothing more arrives: the server has dropped our pulls, the rest was delivered."""
        self.reset()
        subscriptions, self._subscriptions, self._waiting = list(self._subscriptions.values()), {}, ""
        await asyncio.gather(*(one.drain() for one in subscriptions), *self._drains)

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

    def is_waiting(self, line: Line) -> bool:
        """Whether a pull waits at this line."""
        return any(pull.waits and pull.line == line for pull in self._open.values())

    async def ask(self, line: Line, batch: int, *, wait: bool) -> Pull | None:
        """Ask for up to `batch` messages; `wait` for them at the server, or take only what is there.

        None: not connected, nothing was asked.
        """
        ask: dict[str, object] = {"batch": batch}
        ask |= {"expires": int(EXPIRES * 1e9)} if wait else {"no_wait": True}
        inbox = self._waiting if wait and self._waiting else self._inbox
        name = f"{inbox}.{next(self._ids)}"
        if not await self._transport.send(self._subject(line), json.dumps(ask).encode(), reply=name):
            return None
        now = asyncio.get_running_loop().time()
        self._open[name] = pull = Pull(line, batch, batch, now + (EXPIRES + 1.0 if wait else ANSWER), wait)
        return pull

    async def open_waiting(self) -> None:
        """Pulls that wait use an inbox of their own from now on, which `close_waiting` ends."""
        if not self._waiting:
            inbox = self._transport.new_inbox()
            await self._listen(inbox)
            self._waiting = inbox

    def close_waiting(self) -> None:
        """Take back the pulls that wait; what the server has sent already still arrives (a drained subscription)."""
        if not self._waiting:
            return
        subscription, self._waiting = self._subscriptions.pop(self._waiting), ""
        for name in [name for name, pull in self._open.items() if pull.waits]:
            self._close(name)
        drain = asyncio.create_task(subscription.drain())
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def until_closed(self, pulls: list[Pull]) -> None:
        """Until each of these pulls has ended, by messages or by a status."""
        try:
            async with asyncio.timeout(ANSWER):
                for pull in pulls:
                    await pull.done.wait()
        except TimeoutError:
            self.reset()

    def _subject(self, line: Line) -> str:
        return f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{subjects.consumer(line.task_class, line.lane)}"

    async def _listen(self, inbox: str) -> None:
        self._subscriptions[inbox] = await self._transport.listen(f"{inbox}.*", self._on_message)

    def _on_message(self, message: Message) -> None:
        if is_delivery(message):
            self._count_down(message.subject)
            self.trouble = ""
            self._on_delivery(parse_delivery(message))
        elif message.status != "100":
            pull = self._open.get(message.subject)
            if message.status == "503" and pull and pull.line.lane:
                pull.missing = True
            elif message.status not in ("404", "408"):
                which = pull.line.task_class if pull else "?"
                self.trouble = f"class {which}: {message.description.strip() or 'no such stream or consumer'}"
            self._close(message.subject)
            self._wake.set()

    def _count_down(self, subject: str) -> None:
        """The server serves the pulls of a line in order, so a message belongs to the oldest one."""
        for name, pull in self._open.items():
            if self._line(subject) == pull.line:
                pull.left -= 1
                if pull.left <= 0:
                    self._close(name)
                    if pull.waits:
                        self._wake.set()
                return

    def _line(self, subject: str) -> Line:
        line = self._lines.get(subject)
        if line is None:
            line = self._lines[subject] = Line(*subjects.parse_tasks(subject))
        return line

    def _close(self, name: str) -> None:
        pull = self._open.pop(name, None)
        if pull:
            pull.done.set()
