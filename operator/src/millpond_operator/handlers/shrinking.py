"""Shrinking: takes the workers away that scaling no longer asks for.

Owns when that happens; who goes is `decisions.shrink`'s matter and how `removing`'s. During a rollout the old versions
give first: the number asked for is lowered, and `rollouts` drains what is then too many.
"""

import time

import structlog
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_scaling import Decision
from millpond_scaling.engine import PAUSED_BY_SUPERVISOR

from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.shrink import Candidate, decide_victims, is_drained
from millpond_operator.handlers.removing import Remover
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.sides import read_candidates
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)


class Shrinker:
    """`shrink` takes workers away; `leftovers` says whether drained ones hold a place."""

    def __init__(self, world: World, replicas: Replicas) -> None:
        self.world = world
        self.replicas = replicas
        self.remover = Remover(world, replicas)

    def _candidates(self, key: PoolKey) -> list[Candidate]:
        """Workers of the version that has the say: the others are a rollout's matter."""
        version = self.world.memory[key].version
        return [worker for worker in read_candidates(self.world, key) if worker.version == version]

    def leftovers(self, key: PoolKey) -> bool:
        """Whether a drained worker holds a place that nobody is about to remove."""
        if not self.world.crowd(key).drained and not self.world.memory[key].removed:
            return False
        return any(is_drained(candidate) for candidate in self._candidates(key))

    async def shrink(self, key: PoolKey, decision: Decision, spec: WorkerPoolSpec) -> None:
        memory = self.world.memory[key]
        async with memory.lock:
            if self.replicas.current(key) != decision.current:
                return  # decided on what has changed meanwhile: the next tick decides again
            surplus = decision.current - decision.target
            candidates = self._candidates(key)
            if surplus == 0:
                await self._recycle(key, candidates)
                return
            given = self.replicas.give_old(key, surplus)
            if given:
                self.replicas.record(key, decision, decision.current - given)
                return
            paused = key in self.world.pauses
            forced = paused or spec.replicas is not None or decision.current > spec.scaling.max_workers
            plan = decide_victims(candidates, surplus, forced=forced)
            memory.held = plan.held
            reason = PAUSED_BY_SUPERVISOR if paused else "ManualScale" if spec.replicas is not None else "ScaleDown"
            victims = await self.remover.drain(key, plan.steps, reason)
            # Replicas without a pod (none could be made) go without a drain.
            count = surplus if not candidates else len(victims)
            if count and await self.remover.lower(key, memory.version, victims, count):
                self.replicas.count_lower(key, count)
                self.replicas.record(key, decision, decision.current - count)

    async def _recycle(self, key: PoolKey, candidates: list[Candidate]) -> None:
        """Replace a drained worker that is needed after all: its pod is deleted, the ReplicaSet makes another."""
        for candidate in candidates:
            if is_drained(candidate):
                worker = self.world.worker_memory[Key(key.namespace, candidate.name)]
                worker.retired = "Recycled"
                assert worker.pod is not None
                await self.world.api.delete("pods", key.namespace, candidate.name, worker.pod.uid)
                self.world.memory[key].removed[candidate.name] = time.monotonic()
                log.info("a drained worker is replaced", pool=str(key), worker=candidate.name)
