"""Worker objects: one for each worker pod, with the state machine that heartbeats, events and the kubelet tell.

And one for each worker outside the cluster, of which heartbeats and events tell alone (`on_beat`): it is made by the
first heartbeat that names a host, unless a pod has its name, and ends with its goodbye or after a long silence.

Owns the memory of every worker and the objects' creation, status and history. It reads pods and never writes them. An
object outlives its pod, so that how a worker ended stays readable; the oldest ended ones go beyond the history limit.
"""

import time
from collections.abc import Callable
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
from millpond_operator.decisions.crashes import Crash, read_crash
from millpond_operator.decisions.pods import read_pod
from millpond_operator.decisions.stuck import decide_news
from millpond_operator.decisions.workers import (
    GONE_AFTER,
    LOST_AFTER,
    Silence,
    WorkerMemory,
    decide_silence,
    make_worker_status,
)
from millpond_operator.handlers.tasks import TaskController
from millpond_operator.handlers.world import World, pack_status, pool_of

log = structlog.get_logger(__name__)

GATHER = 1.0
"""Seconds between two writes of one worker's status, unless its state changes for good."""
CALM = 100
"""Looks at workers a second, beyond which news of no hurry (Idle and Busy) are gathered for longer: at 3 ms of CPU
for a look and its write, thousands of flipping workers would else be all that the operator does."""
SOON = 0.1
FORGOTTEN_AFTER = 60.0
FINAL = WORKER_ENDED | {WorkerState.LOST, WorkerState.DRAINING}


class WorkerController:
    """Keeps Worker objects; `queue` holds the names that have news."""

    def __init__(self, world: World, tasks: TaskController) -> None:
        self.world = world
        self.tasks = tasks
        self.queue: WorkQueue[Key] = WorkQueue("workers", self.reconcile, concurrency=8)
        self.on_crash: list[Callable[[PoolKey, Crash], None]] = []
        """Told of every crash that is seen, also of one that was told before."""
        self._rank = 0
        self._trimming: set[Key] = set()
        self._clashes: set[Key] = set()
        world.pods.subscribe(self._on_pod)
        world.workers.subscribe(self._on_object)

    # ---- what is heard

    def _on_pod(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        pool = pool_of(body)
        if pool is None:
            return
        key = key_of(body)
        memory = self._memory(pool, key)
        if new is None:
            # Of what is gone only its name is left: what its status said last is remembered.
            memory.gone = True
            self.world.touch(pool)
            self.queue.add(key)
            return
        facts = read_pod(new)
        if memory.pod and memory.pod.uid != facts.uid and old is None:
            self.world.forget_worker(key)
            memory = self._memory(pool, key)
        was, memory.pod = memory.pod, facts
        if was == facts and not memory.gone:
            return
        if facts.ended and memory.beat and (was is None or was.ended != facts.ended):
            # What the process said before its container ended is over; a new process has another incarnation.
            memory.ended_incarnation = memory.beat.incarnation
        memory.gone = False
        self.world.touch(pool)
        if facts.going or facts.ended or facts.trouble:
            self.queue.add(key)
        else:
            # In a rush a worker is shown when it is ready: made and written once instead of at each of its steps.
            self.queue.add_after(key, self._gather() if was else max(SOON, self.queue.waiting / CALM))

    def _on_object(self, old: Body | None, new: Body | None) -> None:
        """A Worker object came, changed or went."""
        body = new or old
        assert body is not None
        key, pool = key_of(body), PoolKey(body["metadata"]["namespace"], body["spec"]["pool"])
        if new is None:
            self.world.worker_objects[pool].discard(key)
            if key in self.world.worker_memory:
                self.queue.add(key)  # somebody deleted it while its worker lives: made again
            else:
                self.world.worker_status.pop(key, None)
            return
        self.world.worker_objects[pool].add(key)
        # Of ended ones too: a container that failed starts again in its pod, and its history goes on.
        if (new.get("status") or {}).get("state") and key not in self.world.worker_status:
            self.world.worker_status[key] = pack_status(new["status"])

    def on_beat(self, pool: PoolKey, worker: str, beat: Beat) -> None:
        """A worker says how it is; the same object again says that nothing has changed."""
        key = Key(pool.namespace, worker)
        if beat.remote and self._is_somebody_elses(pool, key):
            return
        memory = self._memory(pool, key)
        was, memory.heard = memory.beat, time.monotonic()
        if beat.missing_tasks:
            self.tasks.on_missing(pool, beat.missing_tasks, list(beat.handlers))
        if beat is was and memory.silence is Silence.NONE:
            return
        memory.beat, memory.silence = beat, Silence.NONE
        if memory.pod is None and beat.remote:
            memory.host, memory.gone = beat.remote, beat.state in WORKER_ENDED
        self.world.touch(pool)
        final = beat.state in FINAL and (was is None or was.state != beat.state)
        self.queue.add_after(key, SOON if final else self._gather())

    def _is_somebody_elses(self, pool: PoolKey, key: Key) -> bool:
        """Whether a remote worker uses the name of a pod, or of a worker of another pool of the namespace."""
        memory = self.world.worker_memory.get(key)
        taken = self.world.pods.get(*key) is not None or (memory is not None and self.world.worker_pools[key] != pool)
        if taken and key not in self._clashes:
            self._clashes.add(key)
            text = "a remote worker has the name of a pod or of another pool's worker: start it with another --name"
            log.warning(text, pool=str(pool), worker=key.name)
        return taken

    def on_event(self, pool: PoolKey, worker: str, event: WorkerEvent) -> None:
        """A worker took a step."""
        key = Key(pool.namespace, worker)
        memory = self._memory(pool, key)
        memory.events = [*memory.events[-49:], event]
        self.queue.add_after(key, SOON if event.state in FINAL else self._gather())

    def _gather(self) -> float:
        return max(GATHER, self.queue.waiting / CALM)

    def check_silence(self) -> None:
        """Note every worker that has just become silent, for short or for long."""
        now = time.monotonic()
        for key, memory in list(self.world.worker_memory.items()):
            quiet = now - (memory.heard or self.world.started)
            if quiet <= LOST_AFTER and memory.silence is Silence.NONE:
                continue
            if memory.is_remote:
                if quiet > GONE_AFTER and not memory.gone:
                    memory.gone = True
                    self.world.touch(self.world.worker_pools[key])
                    self.queue.add(key)
                    continue
            elif memory.pod is None and quiet > FORGOTTEN_AFTER:
                # The last words of a worker whose pod was gone already.
                self.world.forget_worker(key)
                continue
            silence = decide_silence(quiet)
            if silence is memory.silence:
                continue
            memory.silence = silence
            self.world.touch(self.world.worker_pools[key])
            if memory.beat is not None or memory.is_remote:
                self.queue.add(key)

    def _memory(self, pool: PoolKey, key: Key) -> WorkerMemory:
        return self.world.remember_worker(pool, key)

    # ---- what is written

    async def reconcile(self, key: Key) -> None:
        """The Worker object says what is known of the worker."""
        memory, pool = self.world.worker_memory.get(key), self.world.worker_pools.get(key)
        if memory is None or pool is None or (memory.pod is None and not memory.is_remote):
            return
        body = self.world.workers.get(*key) or await self._create(pool, key, memory)
        if body is None:
            if memory.gone:
                self.world.forget_worker(key)  # a worker of a deleted pool: nobody keeps its object
            return
        known = self.world.worker_status.get(key)
        before = known.parse() if known else _status(body)
        status = make_worker_status(memory, before, datetime.now(UTC), time.monotonic())
        for reason, message in decide_news(status, before, memory.events):
            self.world.tell(body, "Worker", reason, message, warning=True)
        for event in memory.events:
            if event.told:
                self.world.tell(body, "Worker", event.reason, event.message)
        # The steps that they tell are in the status now; a goodbye still says how the worker ended.
        memory.events = [event for event in memory.events[-1:] if event.state in WORKER_ENDED]
        self._put(key, body, status)
        if crash := read_crash(key.name, memory, status):
            for tell in self.on_crash:
                tell(pool, crash)
        if status.state == WorkerState.FAILED and (before is None or before.state != WorkerState.FAILED):
            text = f"{status.reason}: {status.message}"
            self.world.tell(body, "Worker", "WorkerFailed", text, warning=True)
            owner = self.world.pools.get(*pool)
            if owner:
                self.world.tell(owner, "WorkerPool", "WorkerFailed", f"{key.name}: {text}", warning=True)
        if memory.gone:
            await self._retire(pool, key)

    def _put(self, key: Key, body: Body, status: WorkerStatus) -> None:
        manifest = status.to_manifest()
        self.world.worker_status[key] = pack_status(manifest)
        self._rank += 1
        target = Target("workers", key.namespace, key.name, body["metadata"]["uid"])
        self.world.writer.put(target, manifest, self._rank)

    async def _create(self, pool: PoolKey, key: Key, memory: WorkerMemory) -> Body | None:
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
            "spec": {"pool": pool.pool} | ({"remote": True} if memory.is_remote else {"pod": key.name}),
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
        objects = (self.world.workers.get(*key) for key in self.world.worker_objects[pool])
        ended = [body for body in objects if body and self._has_ended(key_of(body))]
        ended.sort(key=lambda body: body["metadata"]["creationTimestamp"])
        for body in ended[: max(0, len(ended) - spec.worker_history_limit)]:
            key = key_of(body)
            if key in self._trimming:
                continue  # many pods of a pool end at once, and each of them looks
            self._trimming.add(key)
            try:
                await self.world.api.delete("workers", key.namespace, key.name, body["metadata"]["uid"])
            finally:
                self._trimming.discard(key)
            self.world.workers.observe("DELETED", body)
            self.world.worker_status.pop(key, None)

    def _has_ended(self, key: Key) -> bool:
        """Its pod is gone and that is written: deleted before, its object would be made again for its last words."""
        memory = self.world.worker_memory.get(key)
        ended = memory is None or (memory.pod is None and not memory.is_remote)
        return ended and self.world.pods.get(*key) is None

    def heal(self) -> None:
        """Worker objects whose pod went while nobody was leading end too; remote ones are waited for."""
        for key, body in list(self.world.workers.objects.items()):
            # First: to read 20,000 statuses takes a second, and nearly all of them have a pod.
            if self.world.pods.get(*key) is not None:
                continue
            known = self.world.worker_status.get(key)
            status = known.parse() if known else _status(body)
            if status is None or status.state not in WORKER_ENDED:
                pool = PoolKey(key.namespace, body["spec"]["pool"])
                memory = self._memory(pool, key)
                if body["spec"].get("remote"):
                    memory.host = memory.host or (status.node if status else "") or key.name
                elif memory.pod is None:
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
        self._put(key, body, status)


def _status(body: Body) -> WorkerStatus | None:
    raw = body.get("status")
    return WorkerStatus.model_validate(raw) if raw else None
