"""WorkerPools: the queue and the Deployment of the wanted version follow the spec.

Observe (caches) → decide (`resources`) → apply (stream, Deployment). Reconciling is idempotent and starts from what is
there, so a leader may die between any two steps. A pool has no finalizer: when it is deleted `rollouts` drains its
workers, and then `sweep` deletes its queue; it reads the reclaim policy from the stream itself and asks the API server
once more before it deletes anything.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from millpond import transport as wire
from millpond_api import ANNOTATION_RESTART, LABEL_VERSION
from millpond_api.broker import QueueConfig
from millpond_api.durations import parse_duration
from millpond_api.remote import PoolSettings
from millpond_api.v1alpha1 import WorkerPoolSpec

from millpond_operator.broker import streams, told
from millpond_operator.cluster.api import path
from millpond_operator.cluster.cache import Body
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.handlers.rollouts import RolloutController
from millpond_operator.handlers.versions import pool_of_deployment
from millpond_operator.handlers.world import PoolMemory, World
from millpond_operator.resources.deployment import make_deployment
from millpond_operator.resources.variables import make_settings

log = structlog.get_logger(__name__)


class PoolController:
    """Reconciles pools; `queue` holds the keys that need it."""

    def __init__(self, world: World, rollouts: RolloutController) -> None:
        self.world = world
        self.rollouts = rollouts
        self.queue: WorkQueue[PoolKey] = WorkQueue("pools", self.reconcile, concurrency=8)
        self._dismissed: set[PoolKey] = set()
        """Pools that are gone, whose remote workers this process has told so: looked at once."""
        self.on_queue_ready: list[Callable[[PoolKey], None]] = []
        world.pools.subscribe(self._on_pool)
        world.deployments.subscribe(self._on_deployment)

    def _on_pool(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        if old is None or new is None or _asked(old) != _asked(new):
            self.queue.add(PoolKey(body["metadata"]["namespace"], body["metadata"]["name"]))

    def _on_deployment(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        key = pool_of_deployment(body)
        changed = new is None or old is None or old["metadata"].get("generation") != new["metadata"].get("generation")
        if key and changed:
            self.queue.add(key)

    async def reconcile(self, key: PoolKey) -> None:
        """The pool's queue and Deployment are as its spec says."""
        body = self.world.pools.get(*key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            await self._forget(key)
            return
        spec = self.world.spec(key)
        assert spec is not None
        try:
            await self._ensure_queue(key, body, spec)
            paused = self.world.pauses.get(key, "")
            await self._tell(key, make_settings(key, spec, datetime.now(UTC)).model_copy(update={"paused": paused}))
        finally:
            await self._ensure_deployment(key, spec)

    async def _forget(self, key: PoolKey) -> None:
        """The pool is gone: nothing of it is remembered, but for the workers that are being taken away."""
        memory = self.world.memory.pop(key, None)
        if self.world.versions.of(key):
            if memory:
                self.world.memory[key] = PoolMemory(lock=memory.lock, removed=memory.removed)
            self.rollouts.queue.add(key)
        await self.sweep()

    async def _tell(self, key: PoolKey, settings: PoolSettings) -> None:
        """The workers outside the cluster know what those in pods have in their environment."""
        memory = self.world.memory[key]
        self._dismissed.discard(key)
        if settings.says_the_same(memory.told):
            return
        if await told.tell(self.world.transport, key, settings):
            log.info("remote workers are told", pool=str(key), deleted=settings.deleted, paused=settings.paused)
        memory.told = settings

    def check_pause(self, key: PoolKey) -> None:
        """A supervisor holds the pool at zero, or does no more: its remote workers hear of it at once."""
        known = self.world.memory[key].told
        if known is not None and known.paused != self.world.pauses.get(key, ""):
            self.queue.add(key)

    async def _dismiss(self) -> None:
        """Remote workers of pools that are gone are told so: they finish what they run and take nothing new."""
        for key in await told.read_told(self.world.transport):
            if key not in self._dismissed and await self._is_gone(key):
                await told.tell(self.world.transport, key, PoolSettings(at=datetime.now(UTC), deleted=True))
                self._dismissed.add(key)

    async def _is_gone(self, key: PoolKey) -> bool:
        """Whether the pool is ours to look after, and the API server itself says that there is none."""
        watched = self.world.settings.watch_namespace
        if self.world.pools.get(*key) is not None or (watched and watched != key.namespace):
            return False
        return await self.world.api.read("workerpools", key.namespace, key.pool) is None

    async def _ensure_queue(self, key: PoolKey, body: Body, spec: WorkerPoolSpec) -> None:
        memory = self.world.memory[key]
        config = make_queue_config(key, body["metadata"]["uid"], spec, self.world.settings.stream_replicas)
        digest = hashlib.sha256(repr(config).encode()).hexdigest()
        if memory.queue_ready and memory.queue_digest == digest:
            return
        try:
            await streams.ensure_pool(self.world.transport, config)
        except wire.TransportError as error:
            memory.queue_ready, memory.queue_error = False, str(error)
            raise
        memory.queue_ready, memory.queue_digest, memory.queue_error = True, digest, ""
        log.info("queue ready", pool=str(key))
        for tell in self.on_queue_ready:
            tell(key)

    async def _ensure_deployment(self, key: PoolKey, spec: WorkerPoolSpec) -> None:
        """The version that the spec asks for has a Deployment; a rollout then moves the workers to it."""
        restart = self.world.restart_of(key)
        manifest = make_deployment(key, spec, self.world.settings.url_for_workers, 0, restart)
        name, version = manifest["metadata"]["name"], manifest["metadata"]["labels"][LABEL_VERSION]
        async with self.world.memory[key].lock:
            known = self.world.versions.of(key)
            if version not in known and not self.rollouts.is_refused(key, version):
                found = await self.world.api.read("deployments", key.namespace, name)
                if found is None:
                    await self._forget_catalogue(key)
                    found = await self.world.api.apply("deployments", key.namespace, manifest)
                    log.info("version made", pool=str(key), version=version)
                elif pool_of_deployment(found) != key:
                    raise RuntimeError(f"Deployment {name} is somebody else's: rename it, or the pool")
                self.world.deployments.observe(None, found)
            self.rollouts.begin(key, spec, version)
            await self._disown(key)

    async def _forget_catalogue(self, key: PoolKey) -> None:
        """What the workers of other versions announced: a pool at zero would never wake to learn the new handlers,
        because calls of them were refused."""
        try:
            await streams.forget_catalogue(self.world.transport, key)
        except wire.TransportError as error:
            # A rollout waits for nothing here: old announcements count for two hours at most beside newer ones.
            log.warning("the catalogue of earlier versions stays for now", pool=str(key), error=str(error))

    async def _disown(self, key: PoolKey) -> None:
        """Earlier operators made the pool own its Deployment: the garbage collector would stop busy workers."""
        for version in list(self.world.versions.of(key).values()):
            if version.owned:
                target = path("deployments", key.namespace, version.deployment)
                changed = await self.world.api.merge(target, {"metadata": {"ownerReferences": None}})
                self.world.deployments.observe(None, changed)

    async def sweep(self) -> None:
        """Dismiss the remote workers of pools that are gone for good, and delete the queues that go with them."""
        await self._dismiss()
        for key, meta in (await streams.read_owners(self.world.transport)).items():
            if meta.get(streams.META_RECLAIM) != "Delete":
                continue
            if self.world.versions.of(key) or self.world.is_served_from_outside(key):
                continue  # its workers still finish what they run
            if await self._is_gone(key):
                await streams.delete_pool(self.world.transport, key)
                log.info("queue deleted with its pool", pool=str(key))

    def forget_queues(self) -> None:
        """NATS came back, maybe without its data: look at every queue again."""
        for key in self.world.pool_keys():
            self.world.memory[key].queue_digest, self.world.memory[key].told = "", None
            self.queue.add(key)


def _asked(body: Body) -> tuple[Any, ...]:
    """What the pool's queue and Deployment are made from: the same again needs no look."""
    meta = body["metadata"]
    return meta["uid"], meta.get("generation"), (meta.get("annotations") or {}).get(ANNOTATION_RESTART)


def make_queue_config(key: PoolKey, uid: str, spec: WorkerPoolSpec, replicas: int) -> QueueConfig:
    """The pool's stream as the spec wants it."""
    return QueueConfig(
        namespace=key.namespace,
        pool=key.pool,
        classes=tuple(spec.queue.classes),
        max_depth=spec.queue.max_depth,
        lease=parse_duration(spec.timeouts.lease),
        storage=spec.queue.storage.lower(),
        replicas=max(spec.queue.replicas, replicas),
        lanes=spec.queue.fairness.lanes if spec.queue.fairness else None,
        metadata=((streams.META_UID, uid), (streams.META_RECLAIM, spec.queue.reclaim_policy)),
    )
