"""WorkerPools: the queue and the Deployment follow the spec.

Observe (caches) → decide (`resources`) → apply (stream, Deployment). Reconciling is
idempotent and starts from what is there, so a leader may die between any two steps. A pool has no finalizer: its
Deployment goes with it by its owner reference (workers drain on SIGTERM), and its queue by `sweep`, which reads the
reclaim policy from the stream itself and asks the API server once more before it deletes anything.
"""

import hashlib
from collections.abc import Callable

import structlog
from millpond import transport as wire
from millpond_api.broker import QueueConfig
from millpond_api.durations import parse_duration
from millpond_api.v1alpha1 import WorkerPoolSpec

from millpond_operator.broker import streams
from millpond_operator.cluster.cache import Body
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.handlers.world import World, pool_of
from millpond_operator.resources.deployment import HASH, Owner, deployment_name, make_deployment

log = structlog.get_logger(__name__)


class PoolController:
    """Reconciles pools; `queue` holds the keys that need it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: WorkQueue[PoolKey] = WorkQueue("pools", self.reconcile, concurrency=8)
        self.on_queue_ready: list[Callable[[PoolKey], None]] = []
        world.pools.subscribe(self._on_pool)
        world.deployments.subscribe(self._on_deployment)

    def _on_pool(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        generation = (b["metadata"].get("generation") for b in (old, new) if b)
        if old is None or new is None or len(set(generation)) > 1 or old["metadata"]["uid"] != new["metadata"]["uid"]:
            self.queue.add(PoolKey(body["metadata"]["namespace"], body["metadata"]["name"]))

    def _on_deployment(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        key = pool_of(body)
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
        finally:
            await self._ensure_deployment(key, body, spec)

    async def _forget(self, key: PoolKey) -> None:
        self.world.memory.pop(key, None)
        await self.sweep()

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

    async def _ensure_deployment(self, key: PoolKey, body: Body, spec: WorkerPoolSpec) -> None:
        memory = self.world.memory[key]
        async with memory.lock:
            known = self.world.deployment(key)
            if known is None:
                known = await self.world.api.read("deployments", key.namespace, deployment_name(key.pool))
            owner = Owner(key.namespace, key.pool, body["metadata"]["uid"])
            replicas = known["spec"].get("replicas", 0) if known else 0
            manifest = make_deployment(owner, spec, self.world.settings.url_for_workers, replicas)
            if known and _owned_by(known, owner.uid) and _hash(known) == _hash(manifest):
                self.world.deployments.observe(None, known)
                return
            if known and not _owned_by(known, owner.uid) and _controlled(known):
                # The Deployment of a deleted pool of the same name, which the garbage collector is about to remove.
                raise RuntimeError(f"Deployment {manifest['metadata']['name']} belongs to somebody else; waiting")
            applied = await self.world.api.apply("deployments", key.namespace, manifest)
            self.world.deployments.observe(None, applied)
            log.info("deployment applied", pool=str(key), replicas=replicas)

    async def sweep(self) -> None:
        """Delete the queues of pools that are gone for good and whose reclaim policy says Delete."""
        for key, meta in (await streams.read_owners(self.world.transport)).items():
            if meta.get(streams.META_RECLAIM) != "Delete" or self.world.pools.get(*key) is not None:
                continue
            watched = self.world.settings.watch_namespace
            if watched and watched != key.namespace:
                continue
            # The cache may be behind: only the API server's own "not found" counts.
            if await self.world.api.read("workerpools", key.namespace, key.pool) is None:
                await streams.delete_pool(self.world.transport, key)
                log.info("queue deleted with its pool", pool=str(key))

    def forget_queues(self) -> None:
        """NATS came back, maybe without its data: look at every queue again."""
        for key in self.world.pool_keys():
            self.world.memory[key].queue_digest = ""
            self.queue.add(key)


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
        metadata=((streams.META_UID, uid), (streams.META_RECLAIM, spec.queue.reclaim_policy)),
    )


def _hash(deployment: Body) -> str:
    return str(deployment["metadata"].get("annotations", {}).get(HASH, ""))


def _controlled(deployment: Body) -> bool:
    return any(owner.get("controller") for owner in deployment["metadata"].get("ownerReferences", []))


def _owned_by(deployment: Body, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in deployment["metadata"].get("ownerReferences", []))
