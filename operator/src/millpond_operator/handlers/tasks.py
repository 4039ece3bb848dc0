"""Task objects: submitted from their spec, and ended, delayed or deleted as it says.

`queue` takes the steps that `decisions.tasks` names. It writes only what no log holds (Pending and its reason, Queued,
Scheduled); what became of a submitted task is `projecting`'s, and what the broker has lost `rescuing`'s.
"""

import itertools
from collections import defaultdict
from datetime import UTC, datetime

from millpond import transport as wire
from millpond_api.lifecycle import TERMINAL, TaskState
from millpond_api.v1alpha1.common import Condition

from millpond_operator.broker import tasks as broker
from millpond_operator.broker.tasks import Ending
from millpond_operator.cluster.cache import Body, Key, key_of
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.admission import Age, Line
from millpond_operator.decisions.conditions import Fact, make_conditions
from millpond_operator.decisions.tasks import Do, PoolView, Step, decide_task, say_yielded
from millpond_operator.handlers.projecting import GATHER, Projector
from millpond_operator.handlers.submitting import Submitter
from millpond_operator.handlers.task_objects import LIVE, TaskObject, parse, phase_of, pool_key
from millpond_operator.handlers.world import World

FULL_RETRY = 1.0
"""Seconds until a full queue is tried again."""


class TaskController:
    """Reconciles Task objects."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: WorkQueue[Key] = WorkQueue("tasks", self.reconcile, concurrency=32)
        self.projector = Projector(world, self.queue.add)
        self.submitter = Submitter(world)
        self._deleted: dict[Key, Body] = {}
        self._lines: dict[PoolKey, Line[Key]] = defaultdict(Line)
        """Pending tasks of full queues."""
        self._seen: dict[Key, int] = {}
        """In which order the Tasks were seen: their ages have whole seconds."""
        self._count_seen = itertools.count()
        world.tasks.subscribe(self._on_task)
        world.pools.subscribe(self._on_pool)

    # ---- what is heard

    def _on_task(self, old: Body | None, new: Body | None) -> None:
        self._count(old, -1)
        self._count(new, 1)
        if old is None and new is not None and phase_of(new) == "Pending":
            self.world.admitting[pool_key(new)].add(key_of(new))
        if old is None and new is not None:
            self._seen[key_of(new)] = next(self._count_seen)
        if new is None:
            assert old is not None
            self._seen.pop(key_of(old), None)
            self.world.submitted.pop(old["metadata"]["uid"], None)
            if phase_of(old) not in TERMINAL:
                self._deleted[key_of(old)] = old
                self.queue.add(key_of(old))
            self.world.writer.forget(parse(old).target)
        elif old is None or phase_of(old) != phase_of(new) or _generation(old) != _generation(new):
            self.queue.add(key_of(new))

    def _on_pool(self, old: Body | None, new: Body | None) -> None:
        """A pool that appears or changes may be what Pending tasks wait for."""
        if new is None or (old and _generation(old) == _generation(new)):
            return
        self.wake_pending(PoolKey(*key_of(new)))

    def wake_pending(self, pool: PoolKey) -> None:
        """Look again at the pool's Pending tasks."""
        for key, body in self.world.tasks.objects.items():
            if key.namespace == pool.namespace and body["spec"]["pool"] == pool.pool and phase_of(body) == "Pending":
                self.queue.add(key)

    def on_missing(self, pool: PoolKey, names: list[str], handlers: list[str]) -> None:
        """A worker met tasks whose handler it does not have; another worker of the pool may have it."""
        beats = [worker.beat for _, worker in self.world.workers_of(pool) if worker.beat and not worker.silence]
        for name in names:
            body = self.world.tasks.get(pool.namespace, name)
            if body is not None and any(body["spec"]["handler"] in beat.handlers for beat in beats):
                continue
            if body is None or phase_of(body) != "Queued" or (body["status"].get("reason") == "HandlerMissing"):
                continue
            task = parse(body)
            text = (
                f"no worker of pool {pool.pool!r} has the handler {task.spec.handler!r} (they have "
                f"{', '.join(sorted(handlers)[:10]) or 'none'}): the task stays queued and runs when one has it"
            )
            status = task.status.model_copy(
                update={
                    "reason": "HandlerMissing",
                    "message": text,
                    "conditions": self._accepted(task, False, "HandlerMissing", text, missing=True),
                }
            )
            self.world.writer.put(task.target, status.to_manifest(), rank=0)

    # ---- submitting

    async def reconcile(self, key: Key) -> None:
        """Take the step that the object asks for."""
        body = self.world.tasks.get(*key)
        gone = self._deleted.pop(key, None)
        seen = body or gone
        if seen is not None:
            self.world.admitting[pool_key(seen)].discard(key)
        if gone is not None:
            await self._end_deleted(parse(gone))
        if body is None or "deletionTimestamp" in body["metadata"]:
            if seen is not None:
                self._leave_line(pool_key(seen), key)
            return
        task = parse(body)
        now = datetime.now(UTC)
        step = decide_task(task.spec, task.status, self._pool_view(task.pool), now)
        if step.do is not Do.SUBMIT:
            self._leave_line(task.pool, key)
        match step.do:
            case Do.SUBMIT | Do.SCHEDULE:
                if task.uid not in self.world.submitted:
                    await self._submit(task, step, now)
            case Do.WAIT:
                self._put(task, step)
            case Do.END:
                await self._end(task, TaskState(step.phase), step.reason, step.message)
            case Do.DELETE:
                await self.world.api.delete("tasks", key.namespace, key.name, task.uid)
            case Do.LATER:
                self.queue.add_after(key, min(step.after, 3600.0) + 0.05)
            case Do.NOTHING:
                pass

    async def _submit(self, task: TaskObject, step: Step, now: datetime) -> None:
        if why := await self.submitter.find_refusal(task):
            self._leave_line(task.pool, task.key)
            await self._end(task, TaskState.FAILED, "ArgumentsRefused", why, unstarted=True)
            return
        if step.do is Do.SUBMIT and not self._lines[task.pool].may_try(task.key, self._age(task)):
            self._wait_for_room(task)
            return
        try:
            other = await self.submitter.send(task, step, now)
        except wire.QueueFull:
            self._wait_for_room(task)
            self.queue.add_after(self._lines[task.pool].head() or task.key, FULL_RETRY)
            return
        except wire.StreamMissing:
            self.world.memory[task.pool].queue_ready = False
            self._put(task, Step(Do.WAIT, "Pending", "QueueMissing", "the pool's queue is being made"))
            self.queue.add_after(task.key, FULL_RETRY)
            return
        self._leave_line(task.pool, task.key)
        if other is not None:
            text = say_yielded(task.spec.unique_key or "", other.lock.who, other.state)
            await self._end(task, TaskState.CANCELLED, "Yielded", text, unstarted=True)
            return
        self.world.submitted[task.uid] = now
        if step.do is Do.SCHEDULE:
            self.projector.queue.add(task.key)
        else:
            self._put(task, step, queued_at=now, delay=GATHER)

    def _wait_for_room(self, task: TaskObject) -> None:
        """In line for its full queue, by age. Only the head tries again; it hands its turn on when it is through."""
        self._lines[task.pool].join(task.key, self._age(task))
        text = f"the queue of pool {task.spec.pool!r} is full (queue.maxDepth): it is admitted when there is room"
        if task.status.reason != "QueueFull":
            self._put(task, Step(Do.WAIT, "Pending", "QueueFull", text))

    def _age(self, task: TaskObject) -> Age:
        return task.created, self._seen.get(task.key, 0)

    def _leave_line(self, pool: PoolKey, key: Key) -> None:
        line = self._lines.get(pool)
        if line is not None and line.leave(key) and (head := line.head()) is not None:
            self.queue.add(head)

    def _put(self, task: TaskObject, step: Step, queued_at: datetime | None = None, delay: float = 0.0) -> None:
        """Write a phase that no log holds. Ranks: waiting −1, submitted 0, then the log's sequences."""
        status = task.status.model_copy(
            update={
                "phase": step.phase,
                "task_id": task.uid,
                "queued_at": queued_at or task.status.queued_at,
                "reason": step.reason,
                "message": step.message,
                "conditions": self._accepted(task, step.do is not Do.WAIT, step.reason, step.message),
            }
        )
        self.world.writer.put(task.target, status.to_manifest(), rank=-1 if step.do is Do.WAIT else 0, delay=delay)

    def _accepted(
        self, task: TaskObject, holds: bool, reason: str, message: str, *, missing: bool = False
    ) -> list[Condition]:
        facts = [
            *([Fact("HandlerMissing", True, reason, message)] if missing else []),
            Fact("Accepted", holds, reason, message),
            Fact("Complete", False, "NotFinished"),
            Fact("Failed", False, "NotFinished"),
        ]
        return make_conditions(task.status.conditions, facts, datetime.now(UTC), task.generation)

    async def _end(
        self, task: TaskObject, state: TaskState, reason: str, message: str, *, unstarted: bool = False
    ) -> None:
        # `unstarted`: an operator that died may have put it into the queue before; it then has a log, which stands.
        ending = Ending(state, datetime.now(UTC), reason, message, task.key.name, task.spec.handler, unstarted)
        await broker.end(self.world.transport, task.pool, task.uid, ending)
        self.projector.queue.add(task.key)

    async def _end_deleted(self, task: TaskObject) -> None:
        """Deleting a Task that has not ended cancels it."""
        if self.world.tasks.get(*task.key) is None or task.status.phase in LIVE:
            ending = Ending(
                TaskState.CANCELLED, datetime.now(UTC), "Deleted", "its object was deleted", "", task.spec.handler
            )
            await broker.end(self.world.transport, task.pool, task.uid, ending)

    def _pool_view(self, key: PoolKey) -> PoolView | None:
        spec = self.world.spec(key)
        return PoolView(tuple(spec.queue.classes), self.world.memory[key].queue_ready) if spec else None

    def _count(self, body: Body | None, by: int) -> None:
        if body is not None:
            self.world.phases[pool_key(body)][phase_of(body)] += by


def _generation(body: Body) -> int:
    return int(body["metadata"].get("generation", 0))
