"""The fast path: pools that may grow are looked at when a task is stored, not when the next tick comes.

Every queue republishes the headers of what it stores. Each pool that may grow has one subscription, which the server
ends after one message: a burst, or a queue with 10,000 tasks a second, is one message until the next look. What is
heard only says "look now"; the queue is read and decided on as in any tick. Listening starts before the reading, on
the same connection, so what is stored is either heard or counted. Looks never take more than half of the loop's time:
a round rests as long as it took. What is missed all the same (a reconnect, a lost message) the tick finds.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog
from millpond import transport as wire
from millpond.transport import Message, Subscription
from millpond_api import subjects
from millpond_api.envelope import MalformedTask, parse_envelope

from millpond_operator.broker import streams, workers
from millpond_operator.broker.streams import Reading
from millpond_operator.cluster.cache import Body, key_of
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.agenda import Agenda
from millpond_operator.handlers.world import World, pool_of

log = structlog.get_logger(__name__)

ALL_AT_ONCE = 8
"""Reading one queue costs about as much as 8 in the list of all (0.7 ms of CPU against 0.1 ms): with more than one in 8
to look at, all are read."""

Look = Callable[[dict[PoolKey, Reading]], Awaitable[None]]


class Waker:
    """`mind` after every decision, `call` for a look soon; `run` looks."""

    def __init__(self, world: World, look: Look) -> None:
        self.world = world
        self._look = look
        self._agenda: Agenda[PoolKey] = Agenda()
        self._wanted: set[PoolKey] = set()
        self._armed: dict[PoolKey, Subscription | None] = {}
        self._idle: list[Subscription] = []
        self._news = asyncio.Event()
        world.pools.subscribe(self._on_pool)
        world.deployments.subscribe(self._on_deployment)

    def _on_pool(self, old: Body | None, new: Body | None) -> None:
        if old is not None and new is not None:
            if old["metadata"].get("generation") != new["metadata"].get("generation"):
                # A person changed what is wanted: that waits for no tick either.
                self.call(PoolKey(*key_of(new)))
        elif old is not None:
            key = PoolKey(*key_of(old))
            self._agenda.forget(key)
            self._wanted.discard(key)
            subscription = self._armed.pop(key, None)
            if subscription is not None:
                self._idle.append(subscription)
                self._news.set()

    def _on_deployment(self, old: Body | None, new: Body | None) -> None:
        """A pool that was made together with its tasks can grow from here on."""
        key = pool_of(new) if new is not None and old is None else None
        if key is not None and self.world.memory[key].queue_ready:
            self.call(key)

    def mind(self, key: PoolKey, may_grow: bool) -> None:
        """Listen to the queue of a pool that may grow; a full or held one is left to the tick."""
        if not may_grow or not self.world.settings.push_wake:
            self._wanted.discard(key)
            return
        self._wanted.add(key)
        if key not in self._armed:
            self.call(key)

    def call(self, key: PoolKey) -> None:
        """Look at the pool soon."""
        if self.world.settings.push_wake:
            self._agenda.ask(key, time.monotonic())
            self._news.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._wait()
            while self._idle:
                await self._idle.pop().close()
            began = time.monotonic()
            keys = self._agenda.take(began, self._is_at_zero)
            if not keys:
                continue
            try:
                await self._round(keys)
            except wire.TransportError as error:
                log.warning("queues could not be read; the tick tries again", error=str(error))
            await asyncio.sleep(time.monotonic() - began)

    async def _wait(self) -> None:
        """Until something is due."""
        self._news.clear()
        due = self._agenda.next_due()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                await self._news.wait()

    async def _round(self, keys: list[PoolKey]) -> None:
        for key in keys:
            if key in self._wanted and key not in self._armed:
                await self._arm(key)
        await self._look(await self._read(keys))

    async def _arm(self, key: PoolKey) -> None:
        self._armed[key] = None
        subscription = await workers.subscribe_wake(self.world.transport, key, self._hearing(key))
        # The message may have come already, or the pool may have gone.
        if key in self._armed:
            self._armed[key] = subscription
        elif key not in self._wanted:
            await subscription.close()

    async def _read(self, keys: list[PoolKey]) -> dict[PoolKey, Reading]:
        """The queues of these pools, in this order; one that is not there is left out."""
        found: Iterable[Reading | None]
        if len(keys) * ALL_AT_ONCE > len(self.world.pools.objects):
            known = await streams.read_queues(self.world.transport)
            found = [known.get(key) for key in keys]
        else:
            found = await asyncio.gather(*(streams.read_queue(self.world.transport, key) for key in keys))
        return {key: reading for key, reading in zip(keys, found, strict=True) if reading is not None}

    def _hearing(self, key: PoolKey) -> Callable[[Message], None]:
        def hear(message: Message) -> None:
            self._armed.pop(key, None)
            if key not in self._wanted:
                return
            memory = self.world.memory[key]
            if memory.first_enqueued is None:
                with contextlib.suppress(MalformedTask):
                    envelope = parse_envelope(message.headers.get(subjects.HEADER_ENVELOPE))
                    memory.first_enqueued = envelope.enqueued.timestamp()
            self.call(key)

        return hear

    def _is_at_zero(self, key: PoolKey) -> bool:
        decision = self.world.memory[key].decision
        return decision is None or decision.current == 0
