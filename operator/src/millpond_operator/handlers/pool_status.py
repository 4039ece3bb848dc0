"""A pool's status: made from what is seen, written when it has changed.

Owns what `kubectl get workerpool` shows; it decides nothing and changes nothing but the status. Survives a leader that
dies before a write: the next one makes the whole status again.
"""

import time
from datetime import UTC, datetime
from typing import Any

from millpond_api.v1alpha1 import WorkerPoolSpec, WorkerPoolStatus
from millpond_api.v1alpha1.workerpool import TaskCounts, WorkerCounts

from millpond_operator.cluster.cache import Body
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster.writer import Target
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.conditions import PoolFacts, decide_pool_facts, make_conditions, say_decision
from millpond_operator.decisions.crowd import Crowd, count_missing
from millpond_operator.handlers.rollout_status import decide_rollout_facts, read_versions
from millpond_operator.handlers.world import LEDGER_LENGTH, World
from millpond_operator.resources.deployment import selector

GATHER = 0.15
"""Seconds in which several changes become one write: a pool that wakes changes four times in a moment."""
CALM = 1.0
"""Seconds between two writes of a pool in which nothing moves but numbers."""
WRITES = 50
"""Writes a second in all, of whatever hurry, when many pools have news: an API server on two cores takes 150 to 200,
and what the news are about (pods that are made, workers that start) needs it too. With 1,000 pools in motion each has
its status every twenty seconds; with seven none waits longer than GATHER."""


class PoolStatuses:
    """`write` has the status of one pool written soon, when what it is made from has changed; `run` writes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: WorkQueue[PoolKey] = WorkQueue("pool statuses", self._put, concurrency=1)
        self._dirty: set[PoolKey] = set()
        self._rank = 0

    async def run(self) -> None:
        """Make and put statuses until cancelled."""
        await self.queue.run()

    def write(self, key: PoolKey) -> None:
        """Something about the pool may have changed; what only counts waits longer than what a person waits for."""
        body = self.world.pools.get(*key)
        if body is None:
            return
        memory = self.world.memory[key]
        news, counts = self._read_news(key, body), self._read_counts(key)
        if memory.shown == (news, counts):
            return
        hurry = not memory.shown or memory.shown[0] != news
        self._dirty.add(key)
        self.queue.add_after(key, max(GATHER if hurry else CALM, len(self._dirty) / WRITES))

    async def _put(self, key: PoolKey) -> None:
        self._dirty.discard(key)
        body, spec = self.world.pools.get(*key), self.world.spec(key)
        if body is None or spec is None:
            return
        shown = self._read_news(key, body), self._read_counts(key)
        status = self._make(key, body, spec, datetime.now(UTC))
        self.world.memory[key].shown = shown
        self._rank += 1
        target = Target("workerpools", key.namespace, key.pool, body["metadata"]["uid"])
        self.world.writer.put(target, status.to_manifest(), self._rank)

    def _read_news(self, key: PoolKey, body: Body) -> tuple[Any, ...]:
        """What the status is made from and somebody may wait for; comparing it costs 3 µs, making the status 300."""
        memory, crowd = self.world.memory[key], self.world.crowd(key)
        decision, order = memory.decision, memory.order
        return (
            body["metadata"]["uid"],
            body["metadata"].get("generation", 0),
            (crowd.pods > 0, crowd.ready > 0, crowd.ready == crowd.pods, crowd.trouble, crowd.limited),
            crowd.remote,
            tuple(handler for handler, _ in crowd.missing),
            tuple((version.version, version.replicas) for version in self.world.versions.of(key).values()),
            self.world.rollout_of(key),
            memory.held,
            self.world.pauses.get(key, ""),
            memory.queue_ready,
            memory.mistakes,
            memory.forecast,
            memory.ledger[0] if memory.ledger else None,
            order is decision,
            *(one and (one.current, one.target, one.reason, one.clamp) for one in (decision, order)),
        )

    def _read_counts(self, key: PoolKey) -> tuple[Any, ...]:
        """The rest: numbers that move all the time while a pool works, and sentences that hold them."""
        memory, crowd = self.world.memory[key], self.world.crowd(key)
        return (
            crowd,
            tuple(self.world.versions.of(key).values()),
            tuple(self.world.phases[key].items()),
            memory.lag,
            *(one and one.message for one in (memory.decision, memory.order)),
            # A drain that takes long is told in other words as time goes by.
            int(time.monotonic()) if crowd.states.get("Draining") else 0,
        )

    def _make(self, key: PoolKey, body: Body, spec: WorkerPoolSpec, now: datetime) -> WorkerPoolStatus:
        memory = self.world.memory[key]
        before = self.world.status_of(key)
        if memory.ledger is None:
            memory.ledger = list(before.decisions)
        current = self.world.workers_asked(key) or 0
        crowd = self.world.crowd(key)
        lag = memory.lag if memory.lag is not None else before.lag
        decision = memory.decision
        desired = decision.target if decision else current
        self._tell_trouble(key, body, crowd.trouble)
        reason, message = say_decision(decision, memory.order)
        facts = PoolFacts(
            ready=crowd.ready,
            desired=memory.order.target if memory.order else current,
            current=current,
            decision_reason=reason,
            decision_message=f"{message}; {memory.held}" if memory.held else message,
            queue_ready=memory.queue_ready,
            trouble=crowd.trouble,
            missing=count_missing(crowd.missing),
            pause=spec.scaling.pause,
            paused_by=self.world.pauses.get(key, ""),
            mistakes=memory.mistakes,
            rate=spec.rate_limit.rate or "" if spec.rate_limit else "",
            limited=crowd.limited,
            waiting=max(0, lag - crowd.said_in_flight),
        )
        generation = body["metadata"].get("generation", 0)
        return WorkerPoolStatus(
            observed_generation=generation,
            replicas=crowd.pods,
            ready_replicas=facts.ready,
            desired=desired,
            lag=lag,
            waiting=max(0, lag - crowd.said_in_flight),
            in_flight=crowd.said_in_flight,
            selector=selector(key.pool),
            workers=_count(crowd),
            remote_workers=crowd.remote,
            remote_slots=crowd.remote_slots,
            tasks=TaskCounts(**{phase.lower(): n for phase, n in self.world.phases[key].items() if n > 0}),
            mode="Paused" if key in self.world.pauses else mode_of(spec),
            forecast=memory.forecast or None,
            decisions=memory.ledger[:LEDGER_LENGTH],
            rollout=self.world.rollout_of(key),
            versions=read_versions(self.world, key),
            conditions=make_conditions(
                before.conditions,
                [*decide_pool_facts(facts), *decide_rollout_facts(self.world, key, spec, now)],
                now,
                generation,
            ),
        )

    def _tell_trouble(self, key: PoolKey, body: Body, trouble: tuple[str, str] | None) -> None:
        memory = self.world.memory[key]
        word = trouble[0] if trouble else ""
        if word and word != memory.trouble_told and trouble:
            self.world.tell(body, "WorkerPool", trouble[0], trouble[1], warning=True)
        memory.trouble_told = word


def mode_of(spec: WorkerPoolSpec) -> str:
    """Who sets the number of workers, in one word."""
    if spec.scaling.mode == "Shadow":
        return "Shadow"
    if spec.replicas is not None:
        return "Manual"
    return "Paused" if spec.scaling.pause != "None" else "Auto"


def _count(crowd: Crowd) -> WorkerCounts:
    states = crowd.states
    return WorkerCounts(
        starting=states.get("Starting", 0),
        idle=states.get("Idle", 0),
        busy=states.get("Busy", 0) + states.get("Leased", 0),
        draining=states.get("Draining", 0),
        lost=states.get("Lost", 0),
    )
