"""Taking workers away: drain, mark, then lower their version's replicas by exactly the number of drained workers.

Owns these three steps and their order; who goes is decided in `decisions.shrink` and `decisions.rollout`. A busy
worker is never removed: an idle one says itself that it runs nothing and takes nothing more before its pod becomes the
cheapest to delete. What a leader that dies in between leaves behind, drained workers, the next one finds first.
"""

import asyncio
import time
from collections.abc import Iterable

import structlog

from millpond_operator.broker import workers
from millpond_operator.cluster.api import ApiError, ApiUnreachable, path
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.shrink import Step
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
KILLED = "Killed"
KILL_GRACE = 1
"""Seconds between SIGTERM and SIGKILL for a worker whose time is over: the least that is no forced deletion, after
which the pod's name would be free while its process may still run."""
SETTLE = 1.0
"""Seconds at most between the marks and the new number. The ReplicaSet controller sees a mark when its watch of all
pods brings it, and the number by another watch: on a machine without an idle moment the number came first in 4 of 10
shrinks, and an idle worker went that nobody had drained. So the number waits as long as the slowest mark took."""


class Remover:
    """`drain`, then `lower`. Whoever calls holds the pool's lock."""

    def __init__(self, world: World, replicas: Replicas) -> None:
        self.world = world
        self.replicas = replicas

    async def drain(self, key: PoolKey, steps: Iterable[tuple[str, Step]], reason: str) -> list[str]:
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

    async def lower(self, key: PoolKey, version: str, victims: list[str], count: int | None = None) -> bool:
        """Mark the victims' pods as the cheapest to delete and lower the version's replicas by their number.

        `count` when it differs from theirs: replicas that never got a pod go without a victim.
        """
        known = self.world.versions.of(key).get(version)
        if known is None:
            return False

        async def mark(name: str) -> None:
            patch = {"metadata": {"annotations": {DELETION_COST: "-1000"}}}
            await self.world.api.merge(path("pods", key.namespace, name), patch)

        # When all go there is nothing to choose: a pool of 20 that goes to zero is one request instead of 21.
        gone = len(victims) if count is None else count
        some_stay = known.replicas > gone or count_staying(self.world, key, version, victims) > 0
        try:
            if some_stay:
                began = time.monotonic()
                await asyncio.gather(*(mark(name) for name in victims))
                await asyncio.sleep(min(SETTLE, time.monotonic() - began))
        except (ApiError, ApiUnreachable) as error:
            log.warning("a pod could not be marked; trying again", pool=str(key), error=str(error))
            return False
        removed = self.world.memory[key].removed
        removed |= dict.fromkeys(victims, time.monotonic())
        lowered = max(known.replicas - gone, count_staying(self.world, key, version))
        return lowered >= known.replicas or await self.replicas.scale(key, known, lowered)


def count_staying(world: World, key: PoolKey, version: str, victims: Iterable[str] = ()) -> int:
    """Workers of the version that nobody removes: its replicas must never be fewer.

    A leader that died may have lowered them for a drained worker whose pod is still there; lowered once more for the
    same one, they would cost a busy worker.
    """
    removed = {*world.memory[key].removed, *victims}
    return sum(
        1
        for name, worker in world.workers_of(key)
        if worker.pod and worker.pod.version == version and not worker.pod.going and name.name not in removed
    )


async def kill_workers(world: World, replicas: Replicas, key: PoolKey, keep: str | None) -> None:
    """End the pool's workers now, whatever they run: their supervisor's patience is over.

    Spares the version of the restart `keep`; none when that is None. Replicas go first, or each would be replaced.
    What they ran is run again elsewhere when their leases end.
    """
    doomed = [version for version in world.versions.of(key).values() if keep is None or version.restarted != keep]
    names = {version.version for version in doomed}
    async with world.memory[key].lock:
        for version in doomed:
            if version.replicas and not await replicas.scale(key, version, 0):
                return
        for name, worker in list(world.workers_of(key)):
            if worker.pod and worker.pod.version in names and worker.retired != KILLED:
                log.info("a worker is killed: its time to finish is over", pool=str(key), worker=name.name)
                await world.api.delete("pods", key.namespace, name.name, worker.pod.uid, grace=KILL_GRACE)
                worker.retired = KILLED
