"""The scaling loop: reads all queues each tick, decides for every pool, and has it applied.

Owns the order observe → decide → apply, and that a pool is changed by one at a time. Growing is one patch; `waking`
asks for looks between two ticks, `shrinking` takes workers away. A step that fails is decided anew by the next tick.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import replace

import structlog
from millpond import transport as wire
from millpond_scaling import Decision, Observation, Policy, decide

from millpond_operator import metrics
from millpond_operator.broker import streams
from millpond_operator.broker.classes import read_classes
from millpond_operator.broker.streams import Reading
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.handlers.forecasting import Forecaster
from millpond_operator.handlers.groups import Groups, Wish
from millpond_operator.handlers.ledger import Ledger, Made
from millpond_operator.handlers.observing import Observer
from millpond_operator.handlers.pool_status import PoolStatuses
from millpond_operator.handlers.pools import PoolController
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.shrinking import Shrinker
from millpond_operator.handlers.waking import Waker
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)

BREATH = 32
"""Pools between two breaths of the loop: a tick over 1,000 pools must not hold up a wake."""

SHRINKS = 32
"""Pools that shrink at once. When 1,000 pools of 20 did, 20,000 drains and marks were under way together, and took
130 MB (seen); what waits its turn shrinks by the newest decision."""


class Scaler:
    """`run` ticks and looks; `step` decides for one pool."""

    def __init__(self, world: World, pools: PoolController, statuses: PoolStatuses) -> None:
        self.world = world
        self.pools = pools
        self.statuses = statuses
        self.replicas = Replicas(world, statuses.write)
        self.shrinker = Shrinker(world, self.replicas)
        self.forecaster = Forecaster(world)
        self.observer = Observer(world, self.replicas, self.forecaster)
        self.waker = Waker(world, self.look)
        self.ledger = Ledger(world)
        self.groups = Groups(world)
        self._tasks: set[asyncio.Task[None]] = set()
        self._shrinks: WorkQueue[PoolKey] = WorkQueue("shrinks", self._shrink, SHRINKS)

    async def run(self) -> None:
        """Tick and look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick_on())
            group.create_task(self.waker.run())
            group.create_task(self.ledger.run())
            group.create_task(self.statuses.run())
            group.create_task(self.forecaster.queue.run())
            group.create_task(self._shrinks.run())

    async def _tick_on(self) -> None:
        while True:
            began = time.monotonic()
            await self.tick()
            metrics.TICK_SECONDS.observe(time.monotonic() - began)
            await asyncio.sleep(max(0.05, self.world.settings.tick_seconds - (time.monotonic() - began)))

    async def tick(self) -> None:
        """Look at every pool once, with one reading of all queues."""
        began = time.monotonic()
        try:
            readings: dict[PoolKey, Reading] | None = await streams.read_queues(self.world.transport)
        except wire.TransportError as error:
            log.warning("the queues could not be read: nothing is scaled", error=str(error))
            readings = None
        await self._read_classes()
        self._share(self.world.pool_keys(), readings or {})
        for number, key in enumerate(self.world.pool_keys()):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            memory = self.world.memory[key]
            self.pools.check_pause(key)
            if memory.looked > began:
                continue  # a wake has just had it looked at, with a newer reading than ours
            if readings is not None and memory.queue_ready and key not in readings:
                # The stream is gone from under us: made again, and until then its lag is unknown.
                memory.queue_ready = False
                self.pools.queue.add(key)
            self.step(key, readings.get(key) if readings is not None else None)

    async def look(self, readings: dict[PoolKey, Reading]) -> None:
        """Decide for the pools that were heard of, in this order."""
        self._share(readings, readings)
        for number, (key, reading) in enumerate(readings.items()):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            self.step(key, reading)

    async def _read_classes(self) -> None:
        """The queues by class, of pools with a latency target and several classes: one request for each of them."""
        keys = []
        for key in self.world.pool_keys():
            spec, memory = self.world.spec(key), self.world.memory[key]
            if spec is not None and spec.scaling.target.latency and len(spec.queue.classes) > 1 and memory.queue_ready:
                keys.append(key)
            elif memory.classes:
                memory.classes = {}
        for start in range(0, len(keys), BREATH):
            some = keys[start : start + BREATH]
            found = await asyncio.gather(
                *(read_classes(self.world.transport, key, self.world.memory[key].class_counts) for key in some),
                return_exceptions=True,
            )
            for key, classes in zip(some, found, strict=True):
                # Without an answer the last ones stand: the lag, read by itself, says what they miss.
                if isinstance(classes, dict):
                    self.world.memory[key].classes = classes
                elif not isinstance(classes, wire.TransportError):
                    raise classes

    def _share(self, keys: Iterable[PoolKey], readings: Mapping[PoolKey, Reading]) -> None:
        """What the PoolGroups leave to these pools, as far as they belong to any."""
        grouped = [key for key in keys if self.groups.has(key)]
        for key in grouped:
            policy, memory = self.world.policy(key), self.world.memory[key]
            if policy is None:
                continue
            seen = replace(self.observer.observe(key, policy, readings.get(key)), allowance=None, group="")
            alone = make_order(seen, policy, decide(seen, policy, memory.scaling, time.monotonic()))
            busy = sum(1 for _, worker in self.world.workers_of(key) if worker.beat and worker.beat.in_flight)
            self.groups.wish(key, Wish(alone.current, alone.target, busy))
        self.groups.allow(grouped)

    def step(self, key: PoolKey, reading: Reading | None) -> None:
        """Decide for one pool; what is to be done is done in the background, one change at a time."""
        try:
            self._step(key, reading)
        except Exception as error:  # one pool that nobody can decide for must not stop a thousand others
            log.error("a pool could not be decided for; the next tick tries again", pool=str(key), error=repr(error))

    def _step(self, key: PoolKey, reading: Reading | None) -> None:
        spec, policy = self.world.spec(key), self.world.policy(key)
        if spec is None or policy is None:
            return
        memory, now = self.world.memory[key], time.monotonic()
        memory.looked = now
        seen = self.observer.observe(key, policy, reading)
        before = memory.scaling
        decision = decide(seen, policy, before, now)
        memory.lag, memory.scaling, memory.decision = seen.lag, decision.memory, decision
        self.forecaster.learn(key, seen, decision)
        metrics.observe_pool(key, seen.lag or 0, decision.current, decision.target)
        memory.order = order = make_order(seen, policy, decision)
        if order.target <= order.current:
            memory.first_enqueued = None
        if not memory.lock.locked():
            self._apply(key, order)
        acted = order is decision and decision.changes
        self.ledger.note(key, Made(now, policy, seen, before, decision, acted))
        self.waker.mind(key, memory.queue_ready and may_grow(seen, policy, decision))
        self.statuses.write(key)

    def _apply(self, key: PoolKey, order: Decision) -> None:
        if order.target > order.current:
            self._spawn(self._grow(key, order))
        elif order.changes or self.shrinker.leftovers(key):
            self._shrinks.add(key)
        else:
            self.world.memory[key].held = ""

    async def _shrink(self, key: PoolKey) -> None:
        """Take away what the pool's newest decision leaves out."""
        spec = self.world.spec(key)
        order = self.world.memory[key].order if spec is not None else None
        if spec is not None and order is not None and order.target <= order.current:
            await self.shrinker.shrink(key, order, spec)

    async def _grow(self, key: PoolKey, decision: Decision) -> None:
        memory = self.world.memory[key]
        async with memory.lock:
            if self.replicas.current(key) != decision.current:
                return  # decided on what has changed meanwhile: the next tick decides again
            if not await self.replicas.set(key, decision.target):
                return
            delay = None
            if decision.reason == "ScaleUp" and (decision.current == 0 or memory.first_enqueued is not None):
                delay = await self._wake_delay(key, decision)
            memory.first_enqueued = None
            self.replicas.record(key, decision, decision.target, delay)

    async def _wake_delay(self, key: PoolKey, decision: Decision) -> float | None:
        """Milliseconds from the first task to the patch, where a task was heard or a pool at zero was woken."""
        if not self.world.settings.push_wake:
            return None
        patched = time.time()
        first = self.world.memory[key].first_enqueued
        if first is None:
            first = await self._oldest(key, patched)
        delay = max(0.0, patched - first)
        (metrics.WAKE_SECONDS if decision.current == 0 else metrics.BURST_SECONDS).observe(delay)
        return delay * 1000

    async def _oldest(self, key: PoolKey, patched: float) -> float:
        """When the first task was stored, as the queue says: a tick may come before the wake.

        `patched` itself when the queue is still empty: the pool was scaled for a task on its way to it.
        """
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


def make_order(seen: Observation, policy: Policy, decision: Decision) -> Decision:
    """What is done: the decision, or in shadow mode what somebody else set in spec.replicas.

    That a supervisor holds a pool at zero is no scaling: it is done in shadow mode too.
    """
    if not policy.shadow or seen.current is None or seen.paused_by:
        return decision
    if policy.manual is None:
        return replace(decision, target=decision.current, reason="Shadow", message="nobody has set spec.replicas")
    return replace(decision, target=policy.manual, reason="Manual", message=f"spec.replicas is {policy.manual}")


def may_grow(seen: Observation, policy: Policy, decision: Decision) -> bool:
    """Whether a task that comes now could add workers: only then is it worth listening for."""
    if seen.paused_by or policy.pause in ("All", "Up") or (policy.manual is not None and not policy.shadow):
        return False
    most = policy.max_workers if seen.allowance is None else min(policy.max_workers, seen.allowance)
    return max(decision.current, decision.target) < most
