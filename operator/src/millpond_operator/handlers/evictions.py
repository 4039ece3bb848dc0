"""Evictions: a busy worker is protected from them, and leaves a cordoned node when it is done.

Owns the busy label of pods, the pool's disruption budget that selects it, and the drain of busy workers on a cordoned
node (kubectl drain cordons first): they finish what they run and take nothing new; as drained ones they are replaced by
the scaling loop, elsewhere. Idle workers are left to the eviction itself. It needs to see nodes, so an operator that is
confined to one namespace does none of this: a budget that nobody ever releases would block a drain for good.

A label that is late or lost costs no task: an evicted worker still has its grace period. A leader that is gone leaves
labels behind, and the next one corrects them with the first heartbeats.
"""

import asyncio
import time

import structlog
from millpond_api import LABEL_BUSY
from millpond_api.events import Beat

from millpond_operator.broker import workers
from millpond_operator.cluster.api import path
from millpond_operator.cluster.cache import Body, Cache, Key
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.workers import LOST_AFTER
from millpond_operator.handlers.world import World
from millpond_operator.resources.budget import budget_name, make_budget

log = structlog.get_logger(__name__)

CALM_SECONDS = 5.0
"""A label stays for this long after the work is done: tasks that follow each other then cost no writes. A pod has it
from its start: a worker takes its first task before anybody could label it (one was evicted 0.27 s into it)."""
LOOK_SECONDS = 1.0
WORKING = ("Busy", "Leased")


def keep_of_node(body: Body) -> Body:
    """A node's body is tens of kilobytes of images and conditions; wanted is one flag."""
    meta = {name: body["metadata"][name] for name in ("name", "uid", "resourceVersion")}
    return {"metadata": meta, "spec": {"unschedulable": body.get("spec", {}).get("unschedulable", False)}}


class EvictionGuard:
    """`on_beat` hears every heartbeat; `queue` writes labels; `run` looks at cordoned nodes."""

    def __init__(self, world: World, nodes: Cache) -> None:
        self.world = world
        self.queue: WorkQueue[Key] = WorkQueue("evictions", self.mark, concurrency=4)
        self._cordoned: set[str] = set()
        self._budgets: set[PoolKey] = set()
        nodes.subscribe(self._on_node)

    def _on_node(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        name = body["metadata"]["name"]
        if new is not None and new.get("spec", {}).get("unschedulable"):
            self._cordoned.add(name)
        else:
            self._cordoned.discard(name)

    def on_beat(self, pool: PoolKey, worker: str, beat: Beat) -> None:
        """Note when a worker's label is not what it says of itself."""
        key = Key(pool.namespace, worker)
        memory = self.world.worker_memory.get(key)
        if memory is None or memory.pod is None:
            return
        right = bool(beat.in_flight) == memory.pod.marked_busy
        if right and (not beat.in_flight or pool in self._budgets):
            return
        if beat.in_flight or beat.state not in ("Idle", *WORKING):
            self.queue.add(key)
        else:
            self.queue.add_after(key, CALM_SECONDS)

    async def mark(self, key: Key) -> None:
        """The pod's label says whether its worker is busy."""
        memory, pool = self.world.worker_memory.get(key), self.world.worker_pools.get(key)
        if memory is None or pool is None or memory.pod is None or memory.beat is None:
            return
        busy, pod = bool(memory.beat.in_flight), memory.pod
        if memory.gone or pod.going:
            return
        if busy and pool not in self._budgets:
            await self.world.api.apply("poddisruptionbudgets", pool.namespace, make_budget(pool))
            self._budgets.add(pool)
        if busy == pod.marked_busy:
            return
        label = {"metadata": {"labels": {LABEL_BUSY: "true" if busy else None}, "uid": pod.uid}}
        changed = await self.world.api.merge(path("pods", key.namespace, key.name), label)
        self.world.pods.observe(None, changed)

    async def remove_budget(self, pool: PoolKey) -> None:
        """The pool is gone and its last worker too."""
        self._budgets.discard(pool)
        await self.world.api.delete("poddisruptionbudgets", pool.namespace, budget_name(pool.pool))

    async def run(self) -> None:
        """Look at cordoned nodes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._cordoned:
                await asyncio.gather(*(self._drain(key) for key in self._busy_on_cordoned()))

    def _busy_on_cordoned(self) -> list[Key]:
        now, found = time.monotonic(), []
        for key, memory in self.world.worker_memory.items():
            if memory.pod is None or memory.beat is None or memory.pod.node not in self._cordoned:
                continue
            here = not memory.gone and not memory.pod.going and now - memory.heard <= LOST_AFTER
            if here and memory.beat.state in WORKING:
                found.append(key)
        return found

    async def _drain(self, key: Key) -> None:
        memory, pool = self.world.worker_memory.get(key), self.world.worker_pools.get(key)
        if memory is None or pool is None:
            return
        answer = await workers.drain(self.world.transport, pool, key.name, if_idle=False)
        if answer is not None and answer.ok:
            memory.retired = "NodeDrained"
            log.info("its node is cordoned: it finishes what it runs", pool=str(pool), worker=key.name)
