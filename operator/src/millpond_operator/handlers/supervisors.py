"""Supervisors: crashes of workers go into the trees of their namespace, what the trees ask of pools is carried out.

Observe (Supervisors, pools, crashes) → decide (`decisions.supervising`) → apply (the pools' restart annotation, their
pause, late workers killed, statuses). A pool is restarted by an annotation, which makes a version of its template that
`rollouts` moves the workers to; it is paused by a sentence in `World.pauses`, which the scaler obeys. What must last
stands in the Supervisors' statuses, so a leader may die between any two steps: a crash that it counted and did not
write down is seen again by the next, which decides the same.
"""

import time
from collections import defaultdict

import structlog
from millpond_api import ANNOTATION_RESET, ANNOTATION_RESTART
from millpond_api.v1alpha1 import SupervisorSpec, SupervisorStatus, WorkerPoolSpec, WorkerStatus

from millpond_operator.cluster.api import ApiError, path
from millpond_operator.cluster.cache import Body, Key
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster.writer import Target
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.crashes import Crash, read_crash
from millpond_operator.decisions.family import Declared, Family, make_family
from millpond_operator.decisions.orders import Ask, Order, PoolView, thaw_node
from millpond_operator.decisions.supervising import Trees
from millpond_operator.decisions.supervisor_status import make_status
from millpond_operator.handlers.removing import kill_workers
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at a namespace that has supervisors: whole seconds are what restarts count in."""


class SupervisorController:
    """`hear` crashes; `queue` holds the namespaces to look at; `restore` before anything is scaled."""

    def __init__(self, world: World, replicas: Replicas) -> None:
        self.world = world
        self.replicas = replicas
        self.queue: WorkQueue[str] = WorkQueue("supervisors", self.look, concurrency=2)
        self._trees: dict[str, Trees] = defaultdict(Trees)
        self._rank = 0
        world.supervisors.subscribe(self._on_supervisor)
        world.pools.subscribe(self._on_pool)

    def _on_supervisor(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        if old is None or new is None or _asked(old) != _asked(new):
            self.queue.add(body["metadata"]["namespace"])

    def _on_pool(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        if (old is None or new is None) and body["metadata"]["namespace"] in self._trees:
            self.queue.add(body["metadata"]["namespace"])

    def restore(self) -> None:
        """Take up what the last leader left: before the first scaling decision, so that what is paused stays so."""
        for namespace in {key.namespace for key in self.world.supervisors.objects}:
            self._declare(namespace)
            self._pause(namespace)

    def hear(self, pool: PoolKey, crash: Crash) -> None:
        """A worker ended badly, now or before: what was counted is not counted again."""
        trees = self._trees.get(pool.namespace)
        if trees is not None and trees.crash(pool.pool, crash, _now()):
            self.queue.add(pool.namespace)

    async def look(self, namespace: str) -> None:
        """Decide for the namespace's trees and carry out what they ask."""
        declared = self._declare(namespace)
        trees = self._trees[namespace]
        trees.look(lambda pool: see_pool(self.world, PoolKey(namespace, pool)), _now())
        self._pause(namespace)
        self._write(namespace, declared)
        if declared:
            self.queue.add_after(namespace, LOOK_SECONDS)
        else:
            self._trees.pop(namespace, None)
        for pool, order in list(trees.orders()):
            await self._carry_out(PoolKey(namespace, pool), order)

    # ---- observe

    def _declare(self, namespace: str) -> list[Declared]:
        """The trees are as people wrote them; supervisors that this process has not seen go on from their statuses."""
        trees, now = self._trees[namespace], _now()
        bodies = [body for key, body in self.world.supervisors.objects.items() if key.namespace == namespace]
        declared = [_read(body) for body in bodies if "deletionTimestamp" not in body["metadata"]]
        pools = {key.name for key in self.world.pools.objects if key.namespace == namespace}
        family = make_family(declared, pools)
        for one in declared:
            if one.name not in trees.nodes:
                self._thaw(namespace, one, family)
        for pool in trees.declare(declared, family, now):
            self._learn(PoolKey(namespace, pool))
        return declared

    def _thaw(self, namespace: str, one: Declared, family: Family) -> None:
        status = self._status(Key(namespace, one.name))
        if status.memory:
            children = [child.to_child() for child in family.children[one.name]]
            node = thaw_node(one.name, one.uid, one.spec.to_flags(), children, status.memory, status.last_restarts)
            self._trees[namespace].nodes[one.name] = node

    def _learn(self, key: PoolKey) -> None:
        """Crashes from before it had a supervisor are no news."""
        for name, memory in self.world.workers_of(key):
            known = self.world.worker_status.get(name)
            crash = read_crash(name.name, memory, known.parse() if known else WorkerStatus())
            if crash:
                self._trees[key.namespace].learn(key.pool, crash)

    def _status(self, key: Key) -> SupervisorStatus:
        return SupervisorStatus.model_validate(self.world.supervisors.objects[key].get("status") or {})

    # ---- apply

    def _pause(self, namespace: str) -> None:
        held = {}
        for pool, order in self._trees[namespace].orders():
            key = PoolKey(namespace, pool)
            if order.ask is Ask.HOLD:
                held[key] = order.why
            elif key in self.world.pauses and order.ask is Ask.RESTART and not self._is_made(key, order):
                held[key] = self.world.pauses[key]
        for key in [key for key in self.world.pauses if key.namespace == namespace and key not in held]:
            del self.world.pauses[key]
            log.info("a pool is paused no more", pool=str(key))
        for key in held.keys() - self.world.pauses.keys():
            log.info("a pool is paused", pool=str(key), why=held[key])
        self.world.pauses |= held

    async def _carry_out(self, key: PoolKey, order: Order) -> None:
        if order.ask is Ask.RESTART and self.world.restart_of(key) != order.token:
            await self._restart(key, order.token)
        if not order.is_late(_now()):
            return
        if order.ask is Ask.HOLD:
            await kill_workers(self.world, self.replicas, key, keep=None)
        elif self._is_made(key, order):
            await kill_workers(self.world, self.replicas, key, keep=order.token)

    def _is_made(self, key: PoolKey, order: Order) -> bool:
        """Whether the pool's new version is there: what is killed or resumed before would come back in the old one."""
        return see_pool(self.world, key).token == order.token

    async def _restart(self, key: PoolKey, token: str) -> None:
        patch = {"metadata": {"annotations": {ANNOTATION_RESTART: token}}}
        try:
            body = await self.world.api.merge(path("workerpools", key.namespace, key.pool), patch)
        except ApiError as error:
            if error.status == 404:
                return  # it was deleted: the watch will say so, and it is no child any more
            raise
        self.world.pools.observe(None, body)
        log.info("a pool is restarted", pool=str(key), restart=token)

    def _write(self, namespace: str, declared: list[Declared]) -> None:
        trees, now = self._trees[namespace], _now()
        for one in declared:
            status = make_status(trees, one, self._status(Key(namespace, one.name)), now)
            self._rank += 1
            self.world.writer.put(Target("supervisors", namespace, one.name, one.uid), status.to_manifest(), self._rank)
        news, trees.news = trees.news, []
        for item in news:
            body = self.world.supervisors.get(namespace, item.supervisor)
            if body is not None:
                self.world.tell(body, "Supervisor", item.reason, item.message, warning=item.warning)


def see_pool(world: World, key: PoolKey) -> PoolView:
    """The pool as its supervisor sees it."""
    spec = world.spec(key)
    if spec is None:
        return PoolView()
    memory, rollout = world.memory[key], world.rollout_of(key)
    crowd, asked = world.crowd(key), world.workers_asked(key) or 0
    version = world.versions.of(key).get(memory.version)
    return PoolView(
        wanted=_wanted(spec, max(asked, memory.order.target if memory.order else 0)),
        ready=crowd.ready_of.get(memory.version, 0),
        there=max(world.versions.total(key), sum(1 for _ in world.workers_of(key))),
        token=version.restarted if version else "",
        phase=rollout.phase,
        since=rollout.since.timestamp() if rollout.since else 0.0,
        message=rollout.message,
    )


def _wanted(spec: WorkerPoolSpec, asked: int) -> int:
    """Workers that the pool is to have; one that nobody may add workers to is waited for with those that it has."""
    if spec.replicas is not None:
        return spec.replicas
    if spec.scaling.mode == "Shadow" or spec.scaling.pause in ("All", "Up"):
        return asked
    return max(asked, min(spec.scaling.min_workers, spec.scaling.max_workers))


def _read(body: Body) -> Declared:
    meta = body["metadata"]
    return Declared(
        meta["name"],
        meta["uid"],
        meta["creationTimestamp"],
        SupervisorSpec.model_validate(body["spec"]),
        meta.get("generation", 0),
        str((meta.get("annotations") or {}).get(ANNOTATION_RESET, "")),
    )


def _asked(body: Body) -> tuple[object, ...]:
    meta = body["metadata"]
    return meta["uid"], meta.get("generation"), meta.get("annotations"), meta.get("deletionTimestamp")


def _now() -> int:
    """Wall time: a restart's second must mean the same to the next leader."""
    return int(time.time())
