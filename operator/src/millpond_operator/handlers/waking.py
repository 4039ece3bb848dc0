"""Pools at zero are woken by push: the queue republishes the headers of every task that it stores.

Owns the subscriptions, one for each pool at zero and none for the others. What is heard only says "look now": the lag
is read and decided on as in any tick, and the tick stays as a backstop for what was not heard.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from millpond import transport as wire
from millpond.transport import Message
from millpond_api import subjects
from millpond_api.envelope import MalformedTask, parse_envelope
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_scaling import Decision

from millpond_operator.broker import streams, workers
from millpond_operator.cluster_key import PoolKey
from millpond_operator.handlers.world import World

WAKE_GATHER = 0.01
"""Seconds between a wake and reading the lag: the rest of a burst is usually there by then."""

Spawn = Callable[[Awaitable[None]], "asyncio.Task[None]"]


class Waker:
    """`mind` after every decision; `step(key, lag)` is called when a pool at zero has work."""

    def __init__(self, world: World, spawn: Spawn, step: Callable[[PoolKey, int], None]) -> None:
        self.world = world
        self._spawn = spawn
        self._step = step

    def mind(self, key: PoolKey, spec: WorkerPoolSpec, decision: Decision) -> None:
        """Listen to the queue of a pool at zero, and stop listening when it is up."""
        memory = self.world.memory[key]
        asleep = decision.current == 0 and decision.target == 0 and self.world.settings.push_wake
        wanted = asleep and spec.replicas is None and spec.scaling.pause not in ("All", "Up") and memory.queue_ready
        if wanted and memory.wake is None and not memory.waking:
            memory.waking = True
            self._spawn(self._listen(key))
        elif not wanted and decision.current > 0 and memory.wake is not None:
            subscription, memory.wake = memory.wake, None
            self._spawn(subscription.close())

    async def _listen(self, key: PoolKey) -> None:
        memory = self.world.memory[key]
        pending: list[asyncio.Task[None]] = []

        def hear(message: Message) -> None:
            if memory.first_enqueued is None:
                with contextlib.suppress(MalformedTask):
                    envelope = parse_envelope(message.headers.get(subjects.HEADER_ENVELOPE))
                    memory.first_enqueued = envelope.enqueued.timestamp()
            if not pending or pending[-1].done():
                pending.append(self._spawn(self._wake(key)))
                del pending[:-1]

        try:
            memory.wake = await workers.subscribe_wake(self.world.transport, key, hear)
        finally:
            memory.waking = False
        # What was stored before the subscription existed woke nobody.
        await self._wake(key)

    async def _wake(self, key: PoolKey) -> None:
        await asyncio.sleep(WAKE_GATHER)
        with contextlib.suppress(wire.TransportError):
            lag = await streams.read_lag(self.world.transport, key)
            if lag:
                self._step(key, lag)
