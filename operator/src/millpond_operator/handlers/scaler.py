"""The scaling loop: reads all queues each tick, decides for every pool, and has it applied.

Owns the order observe → decide → apply, and that a pool is changed by one at a time. Growing is one patch; `waking`
calls for pools at zero, `shrinking` takes workers away. A step that fails is decided anew by the next tick.
"""

import asyncio
import time
from collections.abc import Awaitable

import structlog
from millpond import transport as wire
from millpond_scaling import Decision, Observation, decide, make_policy

from millpond_operator import metrics
from millpond_operator.broker import streams
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.workers import LOST_AFTER
from millpond_operator.handlers.pool_status import PoolStatuses
from millpond_operator.handlers.pools import PoolController
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.shrinking import Shrinker
from millpond_operator.handlers.waking import Waker
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)

SILENT_LONG = 30.0
"""A worker that is silent for longer counts as running nothing: its leases have ended."""


class Scaler:
    """`run` ticks; `step` looks at one pool at once."""

    def __init__(self, world: World, pools: PoolController, statuses: PoolStatuses) -> None:
        self.world = world
        self.pools = pools
        self.statuses = statuses
        self.replicas = Replicas(world, statuses.write)
        self.shrinker = Shrinker(world, self.replicas)
        self.waker = Waker(world, self._spawn, self.step)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            began = time.monotonic()
            await self.tick()
            metrics.TICK_SECONDS.observe(time.monotonic() - began)
            await asyncio.sleep(max(0.05, self.world.settings.tick_seconds - (time.monotonic() - began)))

    async def tick(self) -> None:
        """Look at every pool once, with one reading of all queues."""
        try:
            lags: dict[PoolKey, int] | None = await streams.read_lags(self.world.transport)
        except wire.TransportError as error:
            log.warning("the queues could not be read: nothing is scaled", error=str(error))
            lags = None
        for key in self.world.pool_keys():
            if lags is not None and self.world.memory[key].queue_ready and key not in lags:
                # The stream is gone from under us: made again, and until then its lag is unknown.
                self.world.memory[key].queue_ready = False
                self.pools.queue.add(key)
            self.step(key, lags.get(key) if lags is not None else None)

    def step(self, key: PoolKey, lag: int | None) -> None:
        """Decide for one pool; what is to be done is done in the background, one change at a time."""
        spec = self.world.spec(key)
        if spec is None:
            return
        memory = self.world.memory[key]
        if lag is not None:
            lag += len(self.world.admitting.get(key, ()))
        memory.lag = lag
        decision = decide(self._observe(key, lag), make_policy(spec), memory.scaling, time.monotonic())
        memory.scaling, memory.decision = decision.memory, decision
        metrics.observe_pool(key, lag or 0, decision.current, decision.target)
        if not memory.lock.locked():
            if decision.target > decision.current:
                self._spawn(self._grow(key, decision))
            elif decision.changes or self.shrinker.leftovers(key):
                self._spawn(self.shrinker.shrink(key, decision, spec))
            else:
                memory.held = ""
        self.waker.mind(key, spec, decision)
        self.statuses.write(key)

    def _observe(self, key: PoolKey, lag: int | None) -> Observation:
        current = self.replicas.current(key)
        now, total = time.monotonic(), 0
        for _, worker in self.world.workers_of(key):
            assert worker.pod is not None
            silent = now - (worker.heard or self.world.started)
            if worker.beat and silent <= LOST_AFTER:
                total += len(worker.beat.in_flight)
            elif worker.pod.ready and not worker.pod.going and silent <= SILENT_LONG:
                return Observation(lag, None, current)
        return Observation(lag, total, current)

    async def _grow(self, key: PoolKey, decision: Decision) -> None:
        memory = self.world.memory[key]
        async with memory.lock:
            if self.replicas.current(key) != decision.current:
                return  # decided on what has changed meanwhile: the next tick decides again
            if not await self.replicas.set(key, decision.target):
                return
            delay = None
            if decision.current == 0 and decision.reason == "ScaleUp" and self.world.settings.push_wake:
                patched = time.time()
                delay = max(0.0, (patched - await self._first_enqueued(key, patched)) * 1000)
                metrics.WAKE_SECONDS.observe(delay / 1000)
            memory.first_enqueued = None
            self.replicas.record(key, decision, decision.target, delay)

    async def _first_enqueued(self, key: PoolKey, patched: float) -> float:
        """When the first task was enqueued: as the wake told, else as the queue says (a tick may come before the wake).

        `patched` itself when the queue is still empty: the pool was scaled for a task on its way to it.
        """
        heard = self.world.memory[key].first_enqueued
        if heard is not None:
            return heard
        try:
            stored = await streams.read_first_time(self.world.transport, key)
        except wire.TransportError:
            return patched
        return stored if stored is not None else patched

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # the next tick decides again from what is there
                log.warning("a scaling step failed; the next tick tries again", error=repr(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
