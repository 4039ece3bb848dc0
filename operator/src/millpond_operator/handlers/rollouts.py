"""Rollouts: workers move from old versions of a pool's template to the new one, without stopping a busy one.

Observe (versions, workers) → decide (`decisions.rollout`, `decisions.canary`) → apply (replicas, drains), once a second
for pools that have something to move. All that must last stands in status.rollout and in the Deployments, so a leader
may die between any two steps. The workers of a deleted pool take the same way, to none: there is no finalizer, and
without an operator they simply go on until one is back.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog
from millpond_api.durations import parse_duration
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_api.v1alpha1.rollout import RolloutStatus

from millpond_operator.cluster.cache import Body
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.canary import Finding, Seen, Verdict, decide_canary
from millpond_operator.decisions.rollout import (
    Goal,
    Side,
    count_without_surge,
    decide_drains,
    describe,
    is_complete,
)
from millpond_operator.decisions.shrink import is_serving
from millpond_operator.handlers.pool_status import PoolStatuses
from millpond_operator.handlers.removing import Remover
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.sides import read_goal, read_sides
from millpond_operator.handlers.versions import pool_of_deployment
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)

STEP_SECONDS = 1.0
SOON = 0.05


class RolloutController:
    """`begin` when a pool's template has changed; `queue` holds the pools that have workers to move."""

    def __init__(self, world: World, replicas: Replicas, statuses: PoolStatuses) -> None:
        self.world = world
        self.replicas = replicas
        self.remover = Remover(world, replicas)
        self.statuses = statuses
        self.queue: WorkQueue[PoolKey] = WorkQueue("rollouts", self.step, concurrency=8)
        self.on_gone: Callable[[PoolKey], Awaitable[None]] = _nothing
        """Awaited when the last worker of a deleted pool is gone."""
        world.deployments.subscribe(self._on_deployment)

    def _on_deployment(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        key = pool_of_deployment(body)
        if key is not None and self._has_work(key):
            self.queue.add_after(key, SOON)

    def _has_work(self, key: PoolKey) -> bool:
        if self.world.pools.get(*key) is None:
            return bool(self.world.versions.of(key))
        rollout = self.world.rollout_of(key)
        return rollout.workers is not None or len(self.world.versions.of(key)) > 1

    def look(self) -> None:
        """Take up what is under way: after a start, and now and then."""
        for key in self.world.versions.pools():
            if self._has_work(key):
                self.queue.add(key)

    # ---- which version has the say

    def is_refused(self, key: PoolKey, version: str) -> bool:
        """Whether this template was rolled back, so that the pool stays with the proven one until the spec changes."""
        rollout = self.world.rollout_of(key)
        undone = rollout.phase == "RolledBack" and rollout.version == version
        return undone and rollout.stable in self.world.versions.of(key)

    def begin(self, key: PoolKey, spec: WorkerPoolSpec, version: str) -> None:
        """The spec asks for `version`, whose Deployment is there; from now on it has the say, unless it was refused."""
        memory, rollout = self.world.memory[key], self.world.rollout_of(key)
        known = self.world.versions.of(key)
        if self.is_refused(key, version):
            memory.version = rollout.stable
            return
        memory.version = version
        if rollout.version == version and rollout.phase != "RolledBack":
            return
        others = {name: one for name, one in known.items() if name != version}
        if not others:
            memory.rollout = RolloutStatus(version=version, stable=version, since=datetime.now(UTC))
            return
        stable = rollout.stable if rollout.stable in known else max(others, key=lambda name: others[name].replicas)
        canary = spec.rollout.canary is not None and stable != version
        memory.rollout = RolloutStatus(
            phase="Canary" if canary else "RollingOut",
            version=version,
            stable=stable,
            workers=self._workers_asked(key, sum(one.replicas for one in others.values())),
            since=datetime.now(UTC),
        )
        memory.attempts.clear()
        log.info("rollout begins", pool=str(key), version=version, stable=stable, canary=canary)
        self.queue.add(key)

    def _workers_asked(self, key: PoolKey, old: int) -> int:
        """The number to keep to in a rollout that begins, or that another leader has begun."""
        asked = self.world.rollout_of(key).workers
        if asked is not None:
            return asked
        return count_without_surge(old, self.world.versions.total(key), self.world.status_of(key).desired)

    # ---- one step

    async def step(self, key: PoolKey) -> None:
        """Move what can be moved now."""
        spec, memory = self.world.spec(key), self.world.memory[key]
        if spec is None:
            await self._dissolve(key)
            return
        if not memory.version:
            return  # the pool was not looked at yet; `begin` comes first
        async with memory.lock:
            await self._advance(key, spec)
        self.statuses.write(key)
        if self._has_work(key):
            self.queue.add_after(key, STEP_SECONDS)

    async def _advance(self, key: PoolKey, spec: WorkerPoolSpec) -> None:
        sides = read_sides(self.world, key)
        rollout = self.world.rollout_of(key)
        if rollout.workers is None and any(side.replicas for side in sides if side.role != "new"):
            # Somebody scaled an old version's Deployment.
            new = sum(side.replicas for side in sides if side.role == "new")
            self._update(key, workers=new)
        if rollout.phase == "Canary":
            self._judge(key, spec, sides)
            sides = read_sides(self.world, key)
        goal = read_goal(self.world, key, self.world.workers_asked(key) or 0)
        await self.replicas.raise_all(key)
        await self._drain(key, sides, goal, "Rollout")
        await self._delete_empty(key)
        self._conclude(key, spec, read_sides(self.world, key), goal)

    async def _drain(self, key: PoolKey, sides: list[Side], goal: Goal, reason: str) -> None:
        for version, steps in decide_drains(sides, goal).items():
            victims = await self.remover.drain(key, steps, reason)
            if victims:
                await self.remover.lower(key, version, victims)
        for side in sides:
            if side.role == "old" and side.replicas and not side.workers:
                # Replicas that never got a pod go without a drain.
                await self.remover.lower(key, side.version, [], side.replicas)

    async def _delete_empty(self, key: PoolKey) -> None:
        """Delete the Deployments of old versions that have no worker left; the proven one stays beside a canary."""
        busy = {side.version for side in read_sides(self.world, key) if side.workers or side.role != "old"}
        for name, version in self.world.versions.of(key).copy().items():
            body = self.world.deployments.get(key.namespace, version.deployment)
            if name in busy or version.replicas or version.exist or body is None:
                continue
            await self.world.api.delete("deployments", key.namespace, version.deployment, body["metadata"]["uid"])
            self.world.deployments.observe("DELETED", body)
            log.info("version deleted", pool=str(key), version=name)

    # ---- how it stands

    def _judge(self, key: PoolKey, spec: WorkerPoolSpec, sides: list[Side]) -> None:
        """The canary goes on, gets all workers, or is undone."""
        rollout, now = self.world.rollout_of(key), datetime.now(UTC)
        if spec.rollout.canary is None:
            self._update(key, phase="RollingOut", message="the canary was taken out of the spec")
            return
        seen = self._see_new(key, sides)
        finding = decide_canary(spec.rollout.canary, _deadline(spec), seen, now)
        self._update(key, succeeded=seen.succeeded, failed=seen.failed, message=finding.message)
        if rollout.stable not in self.world.versions.of(key):
            self._update(key, phase="RollingOut", message="the version before is gone: there is nothing to go back to")
        elif finding.verdict is Verdict.PROMOTE:
            self._update(key, phase="RollingOut", since=now)
            self._tell(key, "CanaryPromoted", finding)
        elif finding.verdict is Verdict.ROLL_BACK:
            self._update(key, phase="RolledBack", since=now)
            self.world.memory[key].version = rollout.stable
            self._tell(key, "RolledBack", finding)

    def _see_new(self, key: PoolKey, sides: list[Side]) -> Seen:
        rollout, now = self.world.rollout_of(key), datetime.now(UTC)
        serving = sum(1 for side in sides if side.role == "new" for worker in side.workers if is_serving(worker))
        if serving and rollout.serving_since is None:
            self._update(key, serving_since=now)
        succeeded, failed = self._count(key)
        return Seen(
            since=rollout.since or now,
            serving_since=self.world.rollout_of(key).serving_since,
            serving=serving,
            succeeded=succeeded,
            failed=failed,
            trouble=self._trouble(key),
        )

    def _count(self, key: PoolKey) -> tuple[int, int]:
        """Attempts that ended on the new version's workers: a worker that is gone keeps what it said last.

        A crash of the process is one failed attempt: who runs it can't count it.
        """
        memory = self.world.memory[key]
        for name, worker in self.world.workers_of(key):
            if worker.pod is None or worker.pod.version != memory.version:
                continue
            if worker.pod.ended and not worker.pod.ended.clean:
                memory.attempts[(name.name, "crashes")] = (memory.version, 0, max(1, worker.pod.restarts))
            if worker.beat:
                told = worker.beat.succeeded, worker.beat.failed
                memory.attempts[(name.name, worker.beat.incarnation)] = (memory.version, *told)
        mine = [counted for counted in memory.attempts.values() if counted[0] == memory.version]
        return sum(one[1] for one in mine), sum(one[2] for one in mine)

    def _trouble(self, key: PoolKey) -> tuple[str, str] | None:
        """Why a worker of the new version can't start."""
        version = self.world.memory[key].version
        for _, worker in self.world.workers_of(key):
            if worker.pod and worker.pod.version == version and worker.pod.trouble and not worker.pod.ready:
                return worker.pod.trouble
        return None

    def _conclude(self, key: PoolKey, spec: WorkerPoolSpec, sides: list[Side], goal: Goal) -> None:
        """Progress and sentence; the end of the rollout when it is complete."""
        rollout, now = self.world.rollout_of(key), datetime.now(UTC)
        ready = sum(1 for side in sides if side.role == "new" for worker in side.workers if is_serving(worker))
        self._update(key, progress=f"{ready}/{goal.new}")
        done = is_complete(sides, goal)
        if rollout.phase == "RolledBack":
            if done:
                self._update(key, workers=None)
            return
        if rollout.phase == "Canary" or (rollout.phase == "Complete" and rollout.workers is None):
            return
        if done:
            text = f"version {rollout.version} has all workers"
            self._update(key, phase="Complete", stable=rollout.version, workers=None, since=now, message=text)
            log.info("rollout complete", pool=str(key), version=rollout.version)
            return
        trouble = None if ready else self._trouble(key)
        stalled = trouble is not None and now - (rollout.since or now) >= _deadline(spec)
        text = describe(sides, goal)
        if trouble:
            text = f"new workers can't start ({trouble[0]}: {trouble[1]}); {text}, and the old ones go on"
        self._update(key, phase="Stalled" if stalled else "RollingOut", message=text)

    def _update(self, key: PoolKey, **changes: object) -> None:
        self.world.memory[key].rollout = self.world.rollout_of(key).model_copy(update=changes)

    def _tell(self, key: PoolKey, reason: str, finding: Finding) -> None:
        body = self.world.pools.get(*key)
        bad = finding.verdict is Verdict.ROLL_BACK
        log.warning(reason, pool=str(key), why=finding.message)
        if body is not None:
            self.world.tell(body, "WorkerPool", reason, finding.message, warning=bad)

    # ---- a pool that is gone

    async def _dissolve(self, key: PoolKey) -> None:
        """The pool was deleted: its workers finish what they run, then go, and their Deployments with them."""
        if not self.world.versions.of(key):
            return
        # The cache may be wrong for a moment: only the API server's own "not found" counts.
        if await self.world.api.read("workerpools", key.namespace, key.pool) is not None:
            return
        memory = self.world.memory[key]
        async with memory.lock:
            memory.version = ""
            await self._drain(key, read_sides(self.world, key), Goal(0, 0, surge=0), "PoolDeleted")
            if not any(side.replicas or side.workers for side in read_sides(self.world, key)):
                await self.on_gone(key)
            await self._delete_empty(key)
        self.queue.add_after(key, STEP_SECONDS)


async def _nothing(_key: PoolKey) -> None:
    """Nobody minds."""


def _deadline(spec: WorkerPoolSpec) -> timedelta:
    return timedelta(seconds=parse_duration(spec.rollout.progress_deadline))
