"""A client's connection to the broker, as the transport needs it (`millpond.link.Link`).

Owns the connection's subscriptions and its life: connected, cut, silent, refused, back again. It may be used from
another event loop than the broker's (an SDK client with a thread of its own): packets then cross over by the loops'
thread-safe calls. Callbacks run one after the other for each subscription, as nats-py runs them.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from millpond.testing.broker.routing import Interest
from millpond.testing.broker.server import MAX_PAYLOAD, Broker
from millpond.testing.broker.wire import Packet

Callback = Callable[[Packet], Awaitable[None]]
CONNECT_WAIT = 0.25


@dataclass(eq=False)
class Party:
    """Everything that one party's connections have in common: what is done to it is done to all of them."""

    name: str
    refused: bool = False
    silent: bool = False
    links: "set[MemoryLink]" = field(default_factory=set)
    outgoing: Callable[[Packet, Callable[[Packet], None]], None] = lambda packet, send: send(packet)
    """What becomes of a packet on its way to the broker: it is sent, or another one is, later, or none."""


class Subscribed:
    """A subscription of a link; a task of its own calls the callback."""

    def __init__(self, link: "MemoryLink", interest: Interest, callback: Callback) -> None:
        self.link, self.interest, self._callback = link, interest, callback
        self._packets: deque[Packet] = deque()
        self._news = asyncio.Event()
        self._ending = False
        self._left = 0
        self.task = asyncio.get_running_loop().create_task(self._pump())

    def take(self, packet: Packet) -> None:
        """In the link's loop."""
        self._packets.append(packet)
        self._news.set()

    async def unsubscribe(self, limit: int = 0) -> None:
        """Now, or after `limit` messages in all."""
        if limit > self.interest.heard:
            self.interest.limit = limit
            return
        self.link.forget(self)
        if not limit:
            self._packets.clear()
        self._end()

    async def drain(self) -> None:
        self.link.forget(self)
        self._end()
        if self.task is not asyncio.current_task():
            await self.task

    def cancel(self) -> None:
        self.task.cancel()

    def _end(self) -> None:
        self._ending = True
        self._news.set()

    async def _pump(self) -> None:
        while True:
            while self._packets:
                packet = self._packets.popleft()
                try:
                    await self._callback(packet)
                # As nats-py: a callback that fails is told to the owner of the connection, and the next one runs.
                except Exception as error:
                    await self.link.report(error)
            if self._ending:
                return
            self._news.clear()
            await self._news.wait()


class MemoryLink:
    """One connection."""

    max_payload = MAX_PAYLOAD

    def __init__(self, broker: Broker, party: Party) -> None:
        self._broker, self._party = broker, party
        self.is_connected = self.is_closed = False
        self.last_error: Exception | None = None
        self._loop: asyncio.AbstractEventLoop = broker.loop
        self._subscriptions: set[Subscribed] = set()
        self._held: deque[Callable[[], None]] = deque()
        self._options: dict[str, Any] = {}
        self._coming_back: asyncio.Task[None] | None = None
        # Whoever ends the connection may be another worker's handler, and must not take the way back with it.
        self._context = contextvars.copy_context()

    # ---- what the transport calls

    async def connect(self, servers: Any = (), **options: Any) -> None:
        self._loop, self._options = asyncio.get_running_loop(), options
        while not self._may_connect:
            self.last_error = ConnectionRefusedError("the in-memory broker is stopped, or refuses this party")
            await self.report(self.last_error)
            await asyncio.sleep(CONNECT_WAIT)
        self.is_connected = True
        self._party.links.add(self)

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        if not self.is_connected:
            raise ConnectionResetError("not connected to the in-memory broker")
        size = sum(len(name) + len(value) + 4 for name, value in (headers or {}).items())
        if len(payload) + size > MAX_PAYLOAD:
            raise MessageTooLarge(f"{len(payload)} bytes and headers of {size}: at most {MAX_PAYLOAD}")
        kept = {name.strip(): value.strip() for name, value in headers.items()} if headers else None
        self._party.outgoing(Packet(subject, bytes(payload), reply, kept), self._send)

    async def subscribe(self, subject: str, queue: str = "", cb: Callback | None = None) -> Subscribed:
        assert cb is not None
        interest = Interest(subject, lambda packet: None, queue)
        found = Subscribed(self, interest, cb)
        interest.take = lambda packet: self._arrive(found, packet)
        self._subscriptions.add(found)
        self._pass(lambda: self._broker.router.add(interest))
        return found

    async def flush(self, timeout: float = 10) -> None:
        """Everything that was sent has arrived: a round trip."""
        if not self.is_connected:
            raise ConnectionResetError("not connected to the in-memory broker")
        back = self._loop.create_future()
        self._pass(lambda: self._return(lambda: None if back.done() else back.set_result(None)))
        await asyncio.wait_for(back, timeout)

    async def close(self) -> None:
        self.is_closed = True
        self._leave()
        if self._coming_back:
            self._coming_back.cancel()
        for subscribed in list(self._subscriptions):
            subscribed.cancel()
        self._subscriptions.clear()

    # ---- what subscriptions and faults call

    def forget(self, subscribed: Subscribed) -> None:
        self._subscriptions.discard(subscribed)
        if self.is_connected:
            self._pass(lambda: self._broker.router.remove(subscribed.interest))

    async def report(self, error: Exception) -> None:
        if callback := self._options.get("error_cb"):
            await callback(error)

    def cut(self) -> None:
        """The connection ends without a word; the link comes back when it may."""
        if not self.is_connected:
            return
        self._leave()
        self._coming_back = self._loop.create_task(self._come_back(), context=self._context)

    def resume(self) -> None:
        """What was held passes now."""
        while self._held and not self._party.silent:
            self._held.popleft()()

    # ---- inside

    def _send(self, packet: Packet) -> None:
        if self.is_connected:
            self._pass(lambda: self._broker.receive(packet))

    @property
    def _may_connect(self) -> bool:
        return self._broker.running and not self._party.refused

    def _leave(self) -> None:
        self.is_connected = False
        self._held.clear()
        self._party.links.discard(self)
        interests = [one.interest for one in self._subscriptions]
        self._at_broker(lambda: self._broker.router.remove_all(interests))

    async def _come_back(self) -> None:
        self.last_error = ConnectionResetError("the connection to the in-memory broker was cut")
        if callback := self._options.get("disconnected_cb"):
            await callback()
        await asyncio.sleep(self._options.get("reconnect_time_wait", CONNECT_WAIT))
        await self.connect(**self._options)
        for subscribed in self._subscriptions:
            interest = subscribed.interest
            self._pass(lambda interest=interest: self._broker.router.add(interest))  # type: ignore[misc]
        if callback := self._options.get("reconnected_cb"):
            await callback()

    def _pass(self, act: Callable[[], None]) -> None:
        """Do it at the broker, in order; held back while the party is silent."""
        if self._party.silent:
            self._held.append(lambda: self._at_broker(act))
        else:
            self._at_broker(act)

    def _arrive(self, subscribed: Subscribed, packet: Packet) -> None:
        """From the broker to a subscription."""
        if self.is_connected:
            self._return(lambda: subscribed.take(packet))

    def _return(self, act: Callable[[], None]) -> None:
        if self._party.silent:
            self._held.append(lambda: self._here(act))
        else:
            self._here(act)

    def _at_broker(self, act: Callable[[], None]) -> None:
        if self._same_loop():
            act()
        elif not self._broker.loop.is_closed():
            self._broker.loop.call_soon_threadsafe(act)

    def _here(self, act: Callable[[], None]) -> None:
        if self._same_loop():
            act()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(act)

    def _same_loop(self) -> bool:
        return self._loop is self._broker.loop


class MessageTooLarge(OSError):
    """The broker takes no message of this size."""
