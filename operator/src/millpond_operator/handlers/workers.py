"""Worker objects: one for each worker pod, with the state machine that heartbeats, events and the kubelet tell.

Owns the memory of every worker and the objects' creation, status and history. It reads pods and never writes them. An
object outlives its pod, so that how a worker ended stays readable; the oldest ended ones go beyond the history limit.
"""

import time
from datetime import UTC, datetime

import structlog
from millpond_api import API_VERSION, LABEL_POOL
from millpond_api.events import Beat, WorkerEvent
from millpond_api.lifecycle import WORKER_ENDED, WorkerState
from millpond_api.v1alpha1 import WorkerStatus

from millpond_operator.cluster.api import ApiError
from millpond_operator.cluster.cache import Body, Key, key_of
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster.writer import Target
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.pods import read_pod
from millpond_operator.decisions.workers import LOST_AFTER, WorkerMemory, make_worker_status
from millpond_operator.handlers.tasks import TaskController
from millpond_operator.handlers.world import World, pool_of

log = structlog.get_logger(__name__)

GATHER = 1.0
"""Seconds between two writes of one worker's status, unless its state changes for good."""
SOON = 0.1
FORGOTTEN_AFTER = 60.0
FINAL = WORKER_ENDED | {WorkerState.LOST, WorkerState.DRAINING}


class WorkerController:
    """Keeps Worker objects; `queue` holds the names that have news."""

    def __init__(self, world: World, tasks: TaskController) -> None:
        self.world = world
        self.tasks = tasks
        self.queue: WorkQueue[Key] = WorkQueue("workers", self.reconcile, concurrency=8)
        self._rank = 0
        world.pods.subscribe(self._on_pod)

    # ---- what is heard

    def _on_pod(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        pool = pool_of(body)
        if pool is None:
            return
        key = key_of(body)
        memory = self._memory(pool, key)
        facts = read_pod(body)
        if memory.pod and memory.pod.uid != facts.uid and old is None:
            self.world.forget_worker(key)
            memory = self._memory(pool, key)
        was, memory.pod = memory.pod, facts
        if facts.ended and memory.beat and (was is None or was.ended != facts.ended):
            # What the process said before its container ended is over; a new process has another incarnation.
            memory.ended_incarnation = memory.beat.incarnation
        memory.gone = new is None
        self.queue.add(key)

    def on_beat(self, pool: PoolKey, worker: str, beat: Beat) -> None:
        """A worker says how it is."""
        key = Key(pool.namespace, worker)
        memory = self._memory(pool, key)
        changed = memory.beat is None or memory.beat.state != beat.state
        memory.beat, memory.heard = beat, time.monotonic()
        self.queue.add_after(key, SOON if changed and beat.state in FINAL else GATHER)
        if beat.missing_tasks:
            self.tasks.on_missing(pool, beat.missing_tasks, beat.handlers)

    def on_event(self, pool: PoolKey, worker: str, event: WorkerEvent) -> None:
        """A worker took a step."""
        key = Key(pool.namespace, worker)
        memory = self._memory(pool, key)
        memory.events = [*memory.events[-49:], event]
        self.queue.add_after(key, SOON if event.state in FINAL else GATHER)

    def check_silence(self) -> None:
        """Look at every worker that has just become silent."""
        now = time.monotonic()
        for key, memory in list(self.world.worker_memory.items()):
            if memory.pod is None and now - memory.heard > FORGOTTEN_AFTER:
                # The last words of a worker whose pod was gone already.
                self.world.forget_worker(key)
                continue
            status = self.world.worker_status.get(key)
            silent = memory.beat is not None and now - memory.heard > LOST_AFTER
            if silent and status and status.state not in (*WORKER_ENDED, WorkerState.LOST, WorkerState.STARTING):
                self.queue.add(key)

    def _memory(self, pool: PoolKey, key: Key) -> WorkerMemory:
        return self.world.remember_worker(pool, key)

    # ---- what is written

    async def reconcile(self, key: Key) -> None:
        """The Worker object says what is known of the worker."""
        memory, pool = self.world.worker_memory.get(key), self.world.worker_pools.get(key)
        if memory is None or pool is None or memory.pod is None:
            return
        body = self.world.workers.get(*key) or await self._create(pool, key)
        if body is None:
            if memory.gone:
                self.world.forget_worker(key)  # a worker of a deleted pool: nobody keeps its object
            return
        before = self.world.worker_status.get(key) or _status(body)
        status = make_worker_status(memory, before, datetime.now(UTC), time.monotonic())
        self.world.worker_status[key] = status
        self._rank += 1
        target = Target("workers", key.namespace, key.name, body["metadata"]["uid"])
        self.world.writer.put(target, status.to_manifest(), self._rank)
        if status.state == WorkerState.FAILED and (before is None or before.state != WorkerState.FAILED):
            text = f"{status.reason}: {status.message}"
            self.world.tell(body, "Worker", "WorkerFailed", text, warning=True)
            owner = self.world.pools.get(*pool)
            if owner:
                self.world.tell(owner, "WorkerPool", "WorkerFailed", f"{key.name}: {text}", warning=True)
        if memory.gone:
            await self._retire(pool, key)

    async def _create(self, pool: PoolKey, key: Key) -> Body | None:
        owner = self.world.pools.get(*pool)
        if owner is None:
            return None
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "Worker",
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "labels": {LABEL_POOL: pool.pool},
                "ownerReferences": [
                    {
                        "apiVersion": API_VERSION,
                        "kind": "WorkerPool",
                        "name": pool.pool,
                        "uid": owner["metadata"]["uid"],
                        "controller": True,
                        "blockOwnerDeletion": False,
                    }
                ],
            },
            "spec": {"pool": pool.pool, "pod": key.name},
        }
        try:
            body = await self.world.api.create("workers", key.namespace, manifest)
        except ApiError as error:
            if error.status != 409:
                raise
            found = await self.world.api.read("workers", key.namespace, key.name)
            if found is None:
                raise
            body = found
        self.world.workers.observe(None, body)
        return body

    async def _retire(self, pool: PoolKey, key: Key) -> None:
        """Its pod is gone: forget the memory, and the oldest ended objects beyond the limit."""
        self.world.forget_worker(key)
        memory = self.world.memory.get(pool)
        if memory:
            memory.removed.pop(key.name, None)
        await self.trim(pool)

    async def trim(self, pool: PoolKey) -> None:
        """Delete the oldest Worker objects without a pod, beyond the pool's history limit."""
        spec = self.world.spec(pool)
        if spec is None:
            return
        ended = [
            body
            for key, body in self.world.workers.objects.items()
            if key.namespace == pool.namespace
            and body["spec"]["pool"] == pool.pool
            and self.world.pods.get(*key) is None
        ]
        ended.sort(key=lambda body: body["metadata"]["creationTimestamp"])
        for body in ended[: max(0, len(ended) - spec.worker_history_limit)]:
            key = key_of(body)
            await self.world.api.delete("workers", key.namespace, key.name, body["metadata"]["uid"])
            self.world.worker_status.pop(key, None)

    def heal(self) -> None:
        """Worker objects whose pod went while nobody was leading end too."""
        for key, body in list(self.world.workers.objects.items()):
            status = _status(body)
            if self.world.pods.get(*key) is None and (status is None or status.state not in WORKER_ENDED):
                pool = PoolKey(key.namespace, body["spec"]["pool"])
                memory = self._memory(pool, key)
                if memory.pod is None:
                    self._end_unseen(key, body, status)

    def _end_unseen(self, key: Key, body: Body, before: WorkerStatus | None) -> None:
        """Nobody saw how it ended: what it said last decides."""
        clean = before is not None and before.state in ("Idle", "Draining", "Stopped", "Starting")
        state = WorkerState.STOPPED if clean else WorkerState.FAILED
        status = (before or WorkerStatus()).model_copy(
            update={
                "state": state,
                "reason": "PodGone",
                "message": "its pod went while no operator was watching",
                "in_flight": 0,
                "running": [],
            }
        )
        self.world.forget_worker(key)
        self._rank += 1
        target = Target("workers", key.namespace, key.name, body["metadata"]["uid"])
        self.world.writer.put(target, status.to_manifest(), self._rank)


def _status(body: Body) -> WorkerStatus | None:
    raw = body.get("status")
    return WorkerStatus.model_validate(raw) if raw else None
