"""What a pool's status says of its versions and of the rollout under way. It reads and decides nothing."""

from datetime import datetime, timedelta

from millpond_api.durations import parse_duration
from millpond_api.lifecycle import WorkerState
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_api.v1alpha1.rollout import RolloutStatus, VersionStatus

from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.conditions import Fact
from millpond_operator.decisions.drains import Drain, Held, decide_draining
from millpond_operator.handlers.world import World


def read_versions(world: World, key: PoolKey) -> list[VersionStatus]:
    """The pool's versions, newest first."""
    crowd = world.crowd(key)
    known = list(world.versions.of(key).values())[-20:]
    return [
        VersionStatus(
            version=version.version,
            deployment=version.deployment,
            image=version.image,
            replicas=version.replicas,
            ready=crowd.ready_of.get(version.version, 0),
            busy=crowd.busy_of.get(version.version, 0),
            since=version.made,
        )
        for version in reversed(known)
    ]


def decide_rollout_facts(world: World, key: PoolKey, spec: WorkerPoolSpec, now: datetime) -> list[Fact]:
    """The conditions Progressing and Draining."""
    # A drain that lasts longer than the grace period is one that Kubernetes would not have waited for.
    patience = timedelta(seconds=parse_duration(spec.shutdown.grace_period))
    return [make_progressing(world.rollout_of(key)), decide_draining(read_drains(world, key), patience, now)]


def read_drains(world: World, key: PoolKey) -> list[Drain]:
    """Workers that take nothing new and are still there."""
    found = []
    for name, _ in world.workers_of(key):
        known = world.worker_status.get(name)
        status = known.parse() if known and known.state == WorkerState.DRAINING else None
        if status and status.since:
            runs = (Held(task.task, task.handler, task.since) for task in status.running if task.since)
            found.append(Drain(name.name, status.since, tuple(runs)))
    return found


def make_progressing(rollout: RolloutStatus) -> Fact:
    """The condition Progressing: True while workers move from one version to another."""
    moving = rollout.phase in ("RollingOut", "Canary")
    if rollout.phase == "RolledBack":
        text = f"version {rollout.version} was undone, {rollout.stable} goes on: {rollout.message}"
        return Fact("Progressing", rollout.workers is not None, "RolledBack", text)
    return Fact("Progressing", moving, rollout.phase, rollout.message)
