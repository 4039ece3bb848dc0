"""What is seen of a pool's workers, as the decisions take it: candidates for removal, and the versions they belong to.

Owns the reading alone: from pods, heartbeats and Deployments to frozen records. It changes nothing but the memory of
removed workers whose pods never went (another pod was removed in their place).
"""

import time

import structlog

from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.rollout import Goal, Role, Side, make_goal
from millpond_operator.decisions.shrink import Candidate
from millpond_operator.decisions.workers import LOST_AFTER, WorkerMemory
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)

REMOVAL_PATIENCE = 20.0
"""A drained worker whose pod is still there after this was not the one that the ReplicaSet removed, unless that is
still at work: with a hundred pools that shrank at once on a busy machine 675 pods took longer (seen)."""


def read_candidates(world: World, key: PoolKey) -> list[Candidate]:
    """Every worker of the pool that has a pod."""
    now = time.monotonic()
    memory = world.memory[key]
    for name in [n for n, at in memory.removed.items() if now - at > REMOVAL_PATIENCE]:
        worker = world.worker_memory.get(Key(key.namespace, name))
        if worker is not None and _is_shrinking(world, key, worker):
            continue
        del memory.removed[name]
        if worker is not None and worker.pod is not None and not worker.pod.going and not worker.gone:
            log.warning("another pod was removed than the drained one", pool=str(key), worker=name)
    return [_candidate(name, worker, now, memory.removed) for name, worker in world.workers_of(key)]


def _is_shrinking(world: World, key: PoolKey, worker: WorkerMemory) -> bool:
    """Whether the worker's version has more pods than it is asked for: its controller has not come to them yet.

    Counted are the pods themselves: a Deployment's own count was minutes behind while 20,000 of them went (seen), and
    20 drained workers a second were then taken for ones that stay, and were replaced.
    """
    version = world.versions.of(key).get(worker.pod.version) if worker.pod is not None else None
    if version is None or worker.pod is None:
        return False
    pods = [other.pod for _, other in world.workers_of(key) if other.pod is not None]
    # A ReplicaSet counts no pod that is going or has ended.
    active = [pod for pod in pods if not pod.going and pod.phase not in ("Succeeded", "Failed")]
    return sum(pod.version == worker.pod.version for pod in active) > version.replicas


def read_sides(world: World, key: PoolKey) -> list[Side]:
    """The pool's versions in the order in which they were made, each with its workers."""
    workers: dict[str, list[Candidate]] = {}
    for candidate in read_candidates(world, key):
        workers.setdefault(candidate.version, []).append(candidate)
    return [
        Side(name, role_of(world, key, name), version.replicas, tuple(workers.get(name, ())))
        for name, version in world.versions.of(key).items()
    ]


def role_of(world: World, key: PoolKey, version: str) -> Role:
    """What a version is in the rollout under way."""
    memory, rollout = world.memory[key], world.rollout_of(key)
    if version == memory.version:
        return "new"
    return "kept" if rollout.phase == "Canary" and version == rollout.stable else "old"


def read_goal(world: World, key: PoolKey, total: int) -> Goal:
    """Where the rollout under way goes with `total` workers; with no pool any more, to none at all."""
    spec = world.spec(key)
    if spec is None:
        return Goal(0, 0, surge=0)
    return make_goal(total, spec.rollout, canary=world.rollout_of(key).phase == "Canary")


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
        ready=pod.ready,
        version=pod.version,
    )
