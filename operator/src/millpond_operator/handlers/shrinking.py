"""Shrinking: drain first, then mark, then lower the replicas by exactly the number of drained workers.

Owns the steps and their order; who goes is `decisions.shrink`'s matter. A busy worker is never removed: an idle one
says itself that it runs nothing and takes nothing more before its pod becomes the cheapest to delete. What a leader
that dies in between leaves behind, drained workers, the next one finds first, and removes or replaces.
"""

import asyncio
import time

import structlog
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_scaling import Decision

from millpond_operator.broker import workers
from millpond_operator.cluster.api import ApiError, ApiUnreachable, path
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.shrink import Candidate, Step, decide_victims
from millpond_operator.decisions.workers import LOST_AFTER, WorkerMemory
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
REMOVAL_PATIENCE = 20.0
"""A drained worker whose pod is still there after this was not the one that the ReplicaSet removed."""


class Shrinker:
    """`shrink` takes workers away; `leftovers` says whether drained ones hold a place."""

    def __init__(self, world: World, replicas: Replicas) -> None:
        self.world = world
        self.replicas = replicas

    def _candidates(self, key: PoolKey) -> list[Candidate]:
        now = time.monotonic()
        memory = self.world.memory[key]
        for name in [n for n, at in memory.removed.items() if now - at > REMOVAL_PATIENCE]:
            log.warning("another pod was removed than the drained one", pool=str(key), worker=name)
            del memory.removed[name]
        return [_candidate(name, worker, now, memory.removed) for name, worker in self.world.workers_of(key)]

    def leftovers(self, key: PoolKey) -> bool:
        """Whether a drained worker holds a place that nobody is about to remove."""
        return any(_is_drained(candidate) for candidate in self._candidates(key))

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
            forced = spec.replicas is not None or decision.current > spec.scaling.max_workers
            plan = decide_victims(candidates, surplus, forced=forced)
            memory.held = plan.held
            missing = decision.current - len(candidates)
            victims = await self._drain(key, plan.steps, "ManualScale" if spec.replicas is not None else "ScaleDown")
            if missing > 0 and not candidates:
                # Replicas without a pod (none could be made): they go without a drain.
                await self._lower(key, decision, surplus, [])
            elif victims:
                await self._lower(key, decision, len(victims), victims)

    async def _drain(self, key: PoolKey, steps: tuple[tuple[str, Step], ...], reason: str) -> list[str]:
        """Ask the chosen workers; the names of those that run nothing and take nothing more."""

        async def ask(name: str, step: Step) -> str | None:
            memory = self.world.worker_memory.get(Key(key.namespace, name))
            if memory is None:
                return None
            if step is not Step.RETIRE:
                answer = await workers.drain(self.world.transport, key, name, if_idle=step is Step.ASK)
                if answer is None or not answer.ok or answer.in_flight:
                    if answer is not None and answer.ok:
                        memory.retired = reason
                    return None
            memory.retired = reason
            return name

        answers = await asyncio.gather(*(ask(name, step) for name, step in steps))
        return [name for name in answers if name is not None]

    async def _lower(self, key: PoolKey, decision: Decision, count: int, victims: list[str]) -> None:
        """Mark the victims' pods as the cheapest to delete and lower the replicas by their number."""
        memory = self.world.memory[key]

        async def mark(name: str) -> None:
            patch = {"metadata": {"annotations": {DELETION_COST: "-1000"}}}
            await self.world.api.merge(path("pods", key.namespace, name), patch)

        try:
            await asyncio.gather(*(mark(name) for name in victims))
        except (ApiError, ApiUnreachable) as error:
            log.warning("a pod could not be marked; trying again", pool=str(key), error=str(error))
            return
        if await self.replicas.set(key, decision.current - count):
            now = time.monotonic()
            memory.removed |= dict.fromkeys(victims, now)
            self.replicas.record(key, decision, decision.current - count)

    async def _recycle(self, key: PoolKey, candidates: list[Candidate]) -> None:
        """Replace a drained worker that is needed after all: its pod is deleted, the ReplicaSet makes another."""
        for candidate in candidates:
            if _is_drained(candidate):
                worker = self.world.worker_memory[Key(key.namespace, candidate.name)]
                worker.retired = "Recycled"
                assert worker.pod is not None
                await self.world.api.delete("pods", key.namespace, candidate.name, worker.pod.uid)
                self.world.memory[key].removed[candidate.name] = time.monotonic()
                log.info("a drained worker is replaced", pool=str(key), worker=candidate.name)


def _candidate(name: Key, worker: WorkerMemory, now: float, removed: dict[str, float]) -> Candidate:
    assert worker.pod is not None
    beat, pod = worker.beat, worker.pod
    return Candidate(
        name=name.name,
        state=beat.state if beat else "Starting",
        in_flight=len(beat.in_flight) if beat else 0,
        started=pod.started,
        fresh=now - worker.heard <= LOST_AFTER,
        stuck=pod.trouble is not None and not pod.ready,
        going=pod.going or name.name in removed,
    )


def _is_drained(candidate: Candidate) -> bool:
    ended = candidate.state in ("Draining", "Stopped") and candidate.in_flight == 0
    return ended and candidate.fresh and not candidate.going
