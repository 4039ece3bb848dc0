"""A pool's replicas: set through the scale subresource, and every change recorded in one sentence.

Owns the write and the ledger; what the number should be is decided elsewhere. What the API server answered is put into
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
from millpond_operator.handlers.world import LEDGER_LENGTH, World
from millpond_operator.resources.deployment import deployment_name

log = structlog.get_logger(__name__)


class Replicas:
    """`current`, `set` and `record`."""

    def __init__(self, world: World, write_status: Callable[[PoolKey], None]) -> None:
        self.world = world
        self._write_status = write_status

    def current(self, key: PoolKey) -> int | None:
        """The Deployment's replicas; None when there is none."""
        deployment = self.world.deployment(key)
        return int(deployment["spec"].get("replicas", 0)) if deployment else None

    async def set(self, key: PoolKey, replicas: int) -> bool:
        """Set the replicas; what the API server answered is what the next decision sees."""
        name = deployment_name(key.pool)
        try:
            answer = await self.world.api.merge(
                path("deployments", key.namespace, name, "scale"), {"spec": {"replicas": replicas}}
            )
        except (ApiError, ApiUnreachable) as error:
            log.warning("the Deployment could not be scaled; trying again", pool=str(key), error=str(error))
            return False
        known = self.world.deployment(key)
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
