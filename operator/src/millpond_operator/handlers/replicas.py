"""A pool's replicas: set through the scale subresource of its versions, and every change recorded in one sentence.

Owns the write and the ledger; what the numbers should be is decided elsewhere. What the API server answered is put into
the cache at once, so that the next decision sees its own change and not the past.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from millpond_scaling import Decision

from millpond_operator import metrics
from millpond_operator.cluster.api import ApiError, ApiUnreachable, path
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.ledger import make_entry
from millpond_operator.decisions.rollout import decide_raises
from millpond_operator.handlers.sides import read_goal, read_sides
from millpond_operator.handlers.versions import Version
from millpond_operator.handlers.world import LEDGER_LENGTH, World

log = structlog.get_logger(__name__)


class Replicas:
    """`current`, `set` and `record` for scaling; `scale` sets one version. Whoever sets holds the pool's lock."""

    def __init__(self, world: World, write_status: Callable[[PoolKey], None]) -> None:
        self.world = world
        self._write_status = write_status

    def current(self, key: PoolKey) -> int | None:
        """How many workers are asked for, without a rollout's surge; None when there is no Deployment."""
        return self.world.workers_asked(key)

    async def set(self, key: PoolKey, replicas: int) -> bool:
        """Ask for more workers: one patch of the one version, or, in a rollout, what its bounds allow at once."""
        memory, rollout = self.world.memory[key], self.world.rollout_of(key)
        if rollout.workers is not None:
            memory.rollout = rollout.model_copy(update={"workers": replicas})
            return await self.raise_all(key)
        version = self.world.versions.of(key).get(memory.version)
        return version is not None and await self.scale(key, version, replicas)

    async def raise_all(self, key: PoolKey) -> bool:
        """In a rollout: every version gets the workers that it may have now."""
        sides = read_sides(self.world, key)
        goal = read_goal(self.world, key, self.world.workers_asked(key) or 0)
        known = self.world.versions.of(key)
        raises = decide_raises(sides, goal)
        return all([await self.scale(key, known[name], replicas) for name, replicas in raises.items()])

    def give_old(self, key: PoolKey, surplus: int) -> int:
        """In a rollout: ask for up to `surplus` workers less, as far as old ones can give them; how many."""
        memory, rollout = self.world.memory[key], self.world.rollout_of(key)
        if rollout.workers is None:
            return 0
        new = self.world.versions.of(key).get(memory.version)
        given = min(surplus, max(0, rollout.workers - (new.replicas if new else 0)))
        memory.rollout = rollout.model_copy(update={"workers": rollout.workers - given})
        return given

    def count_lower(self, key: PoolKey, count: int) -> None:
        """The version that has the say was lowered by `count`: in a rollout the number asked for goes with it."""
        memory, rollout = self.world.memory[key], self.world.rollout_of(key)
        if rollout.workers is not None:
            memory.rollout = rollout.model_copy(update={"workers": max(0, rollout.workers - count)})

    async def scale(self, key: PoolKey, version: Version, replicas: int) -> bool:
        """Set one version's replicas; what the API server answered is what the next decision sees."""
        target = path("deployments", key.namespace, version.deployment, "scale")
        try:
            answer = await self.world.api.merge(target, {"spec": {"replicas": replicas}})
        except (ApiError, ApiUnreachable) as error:
            log.warning("the Deployment could not be scaled; trying again", pool=str(key), error=str(error))
            return False
        known = self.world.deployments.get(key.namespace, version.deployment)
        if known is not None:
            meta = known["metadata"] | {"resourceVersion": answer["metadata"]["resourceVersion"]}
            body = {**known, "metadata": meta, "spec": {**known["spec"], "replicas": replicas}}
            self.world.deployments.observe(None, body)
        return True

    def record(self, key: PoolKey, decision: Decision, target: int, delay: float | None = None) -> None:
        """One sentence for log, Event and ledger."""
        memory, body = self.world.memory[key], self.world.pools.get(*key)
        inputs = dict(decision.inputs) | ({"wakeDelayMs": round(delay, 1)} if delay is not None else {})
        entry = make_entry(replace(decision, inputs=inputs), target, datetime.now(UTC))
        memory.ledger = [entry, *(memory.ledger or [])][:LEDGER_LENGTH]
        log.info("scaled", pool=str(key), source=decision.current, target=target, why=decision.message, **inputs)
        metrics.DECISIONS.labels(key.namespace, key.pool, decision.reason).inc()
        if body is not None:
            text = f"{decision.current} → {target}: {decision.message}"
            self.world.tell(body, "WorkerPool", decision.reason, text)
        self._write_status(key)
