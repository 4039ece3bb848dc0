"""Task objects: submitted from their spec, and their status projected from their log.

Two queues over the same objects: `queue` takes the steps that `decisions.tasks` names (submit, schedule, end, delete);
`projection` reads a task's whole log and writes the status that it stands for. Events are hints that a log has moved;
what no event told is found by `heal`, so a missed message delays a status and never falsifies it.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from millpond import transport as wire
from millpond_api.envelope import Envelope
from millpond_api.events import TaskEvent
from millpond_api.lifecycle import TERMINAL, TaskState
from millpond_api.v1alpha1 import TaskSpec, TaskStatus
from millpond_api.v1alpha1.common import Condition

from millpond_operator import metrics
from millpond_operator.broker import tasks as broker
from millpond_operator.broker.tasks import Ending, Order
from millpond_operator.cluster.cache import Body, Key, key_of
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster.writer import Target
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.conditions import Fact, make_conditions
from millpond_operator.decisions.projection import is_news, project
from millpond_operator.decisions.tasks import Do, PoolView, Step, decide_task, make_retry
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)

GATHER = 0.25
"""Seconds in which what happens to a task is written as one status: a short task then costs one write, not three."""
FULL_RETRY = 1.0
LIVE = frozenset({"Queued", "Scheduled", "Running", "Backoff"})


@dataclass(frozen=True)
class _Parsed:
    key: Key
    uid: str
    generation: int
    pool: PoolKey
    spec: TaskSpec
    status: TaskStatus

    @property
    def target(self) -> Target:
        return Target("tasks", self.key.namespace, self.key.name, self.uid)


class TaskController:
    """Reconciles Task objects."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: WorkQueue[Key] = WorkQueue("tasks", self.reconcile, concurrency=32)
        self.projection: WorkQueue[Key] = WorkQueue("projection", self.project, concurrency=16)
        self._submitted: dict[str, datetime] = {}
        self._deleted: dict[Key, Body] = {}
        world.tasks.subscribe(self._on_task)
        world.pools.subscribe(self._on_pool)

    # ---- what is heard

    def _on_task(self, old: Body | None, new: Body | None) -> None:
        self._count(old, -1)
        self._count(new, 1)
        if old is None and new is not None and _phase(new) == "Pending":
            self.world.admitting[_pool_key(new)].add(key_of(new))
        if new is None:
            assert old is not None
            self._submitted.pop(old["metadata"]["uid"], None)
            if _phase(old) not in TERMINAL:
                self._deleted[key_of(old)] = old
                self.queue.add(key_of(old))
            self.world.writer.forget(_parse(old).target)
        elif (
            old is None or _phase(old) != _phase(new) or old["metadata"]["generation"] != new["metadata"]["generation"]
        ):
            self.queue.add(key_of(new))

    def _on_pool(self, old: Body | None, new: Body | None) -> None:
        """A pool that appears or changes may be what Pending tasks wait for."""
        if new is None or (old and old["metadata"]["generation"] == new["metadata"]["generation"]):
            return
        self.wake_pending(PoolKey(*key_of(new)))

    def wake_pending(self, pool: PoolKey) -> None:
        """Look again at the pool's Pending tasks."""
        for key, body in self.world.tasks.objects.items():
            if key.namespace == pool.namespace and body["spec"]["pool"] == pool.pool and _phase(body) == "Pending":
                self.queue.add(key)

    def on_event(self, pool: PoolKey, task_id: str, event: TaskEvent) -> None:
        """A task's log has moved."""
        metrics.TASKS.labels(*pool, event.state).inc()
        if not event.object:
            return
        key = Key(pool.namespace, event.object)
        if event.state in TERMINAL:
            self.projection.add(key)
        else:
            self.projection.add_after(key, GATHER)

    def on_missing(self, pool: PoolKey, names: list[str], handlers: list[str]) -> None:
        """A worker met tasks whose handler it does not have."""
        for name in names:
            body = self.world.tasks.get(pool.namespace, name)
            if body is None or _phase(body) != "Queued" or (body["status"].get("reason") == "HandlerMissing"):
                continue
            task = _parse(body)
            text = (
                f"no worker of pool {pool.pool!r} has the handler {task.spec.handler!r} (they have "
                f"{', '.join(sorted(handlers)[:10]) or 'none'}): the task stays queued and runs when one has it"
            )
            status = task.status.model_copy(
                update={
                    "reason": "HandlerMissing",
                    "message": text,
                    "conditions": self._accepted(task, False, "HandlerMissing", text),
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
            self.world.admitting[_pool_key(seen)].discard(key)
        if gone is not None:
            await self._end_deleted(_parse(gone))
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        task = _parse(body)
        now = datetime.now(UTC)
        step = decide_task(task.spec, task.status, self._pool_view(task.pool), now)
        match step.do:
            case Do.SUBMIT | Do.SCHEDULE:
                if task.uid not in self._submitted:
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

    async def _submit(self, task: _Parsed, step: Step, now: datetime) -> None:
        order = make_order(task.key, task.uid, task.spec, now)
        try:
            if step.do is Do.SCHEDULE:
                await broker.schedule(self.world.transport, order)
            else:
                await broker.submit(self.world.transport, order)
        except wire.QueueFull:
            text = f"the queue of pool {task.spec.pool!r} is full (queue.maxDepth): it is admitted when there is room"
            self._put(task, Step(Do.WAIT, "Pending", "QueueFull", text))
            self.queue.add_after(task.key, FULL_RETRY)
            return
        except wire.StreamMissing:
            self.world.memory[task.pool].queue_ready = False
            self._put(task, Step(Do.WAIT, "Pending", "QueueMissing", "the pool's queue is being made"))
            self.queue.add_after(task.key, FULL_RETRY)
            return
        self._submitted[task.uid] = now
        self._put(task, step, queued_at=now, delay=GATHER)

    def _put(self, task: _Parsed, step: Step, queued_at: datetime | None = None, delay: float = 0.0) -> None:
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

    def _accepted(self, task: _Parsed, holds: bool, reason: str, message: str) -> list[Condition]:
        facts = [
            Fact("Accepted", holds, reason, message),
            Fact("Complete", False, "NotFinished"),
            Fact("Failed", False, "NotFinished"),
        ]
        return make_conditions(task.status.conditions, facts, datetime.now(UTC), task.generation)

    async def _end(self, task: _Parsed, state: TaskState, reason: str, message: str) -> None:
        ending = Ending(state, datetime.now(UTC), reason, message, task.key.name, task.spec.handler)
        await broker.end(self.world.transport, task.pool, task.uid, ending)
        self.projection.add(task.key)

    async def _end_deleted(self, task: _Parsed) -> None:
        """Deleting a Task that has not ended cancels it."""
        if self.world.tasks.get(*task.key) is None or task.status.phase in LIVE:
            ending = Ending(
                TaskState.CANCELLED, datetime.now(UTC), "Deleted", "its object was deleted", "", task.spec.handler
            )
            await broker.end(self.world.transport, task.pool, task.uid, ending)

    def _pool_view(self, key: PoolKey) -> PoolView | None:
        spec = self.world.spec(key)
        return PoolView(tuple(spec.queue.classes), self.world.memory[key].queue_ready) if spec else None

    # ---- projecting

    async def project(self, key: Key) -> None:
        """Make the status from the whole log."""
        body = self.world.tasks.get(*key)
        if body is None:
            return
        task = _parse(body)
        view = await broker.read_view(self.world.transport, task.pool, task.uid)
        if view.last is None or not is_news(task.status, view.last):
            return
        if view.last.sequence < task.status.observed_sequence:
            # NATS has lost its data and counts anew: what was written before has no rank any more.
            self.world.writer.forget(task.target)
        before = task.status.model_copy(
            update={"task_id": task.uid, "queued_at": task.status.queued_at or self._submitted.get(task.uid)}
        )
        status = project(before, view, datetime.now(UTC), task.generation)
        self.world.writer.put(task.target, status.to_manifest(), rank=view.last.sequence)
        if view.terminal:
            self._submitted.pop(task.uid, None)
            if view.state == TaskState.FAILED and task.status.phase != "Failed":
                self.world.tell(body, "Task", "Failed", status.message or status.reason, warning=True)

    # ---- healing

    def project_all(self) -> None:
        """After a start or a reconnect, when events may have been missed: read the log of each task that has not ended.

        A Pending one may have a log too: its submission reached the queue, and who made it was killed, or cut off,
        before it could write so.
        """
        for key, body in self.world.tasks.objects.items():
            if _phase(body) == "Pending":
                self.projection.add(key)
        self.project_live()

    def project_live(self) -> None:
        """Read the log of every task that was submitted and has not ended; look at the others again."""
        for key, body in self.world.tasks.objects.items():
            phase = _phase(body)
            if phase in LIVE:
                self.projection.add(key)
            elif phase not in TERMINAL:
                self.queue.add(key)

    async def heal(self) -> None:
        """What should have moved and did not: project it again, and submit again what the broker has lost."""
        now, patience = datetime.now(UTC), timedelta(seconds=self.world.settings.rescue_seconds)
        self.project_live()
        for body in list(self.world.tasks.objects.values()):
            if _phase(body) not in LIVE:
                continue
            task = _parse(body)
            memory = self.world.memory[task.pool]
            quiet = memory.queue_ready and memory.lag == 0 and not self._in_flight(task.pool)
            if quiet and (task.status.queued_at or now) < now - patience:
                await self._rescue(task, now, patience)

    async def _rescue(self, task: _Parsed, now: datetime, patience: timedelta) -> None:
        """The queue is empty and nobody runs anything, yet the task has not ended: its message is lost."""
        view = await broker.read_view(self.world.transport, task.pool, task.uid)
        last = view.last
        due = task.spec.not_before or now
        if view.terminal or due > now - patience * (task.spec.not_before is not None):
            return
        order = make_order(task.key, task.uid, task.spec, now)
        if last is not None:
            waits = last.state == TaskState.BACKOFF
            if max(last.at, last.next_at or last.at) > now - patience:
                return
            attempt = last.attempt + 1 if waits else last.attempt
            order = Order(order.pool, order.envelope.model_copy(update={"attempt": attempt}), order.payload)
        log.warning(
            "a task's message was lost; it is submitted again", task=str(task.key), attempt=order.envelope.attempt
        )
        await broker.submit(self.world.transport, order, msg_id=f"{task.uid}.rescue.{time.time_ns()}")

    def _in_flight(self, pool: PoolKey) -> int:
        return sum(len(worker.beat.in_flight) for _, worker in self.world.workers_of(pool) if worker.beat)

    def _count(self, body: Body | None, by: int) -> None:
        if body is not None:
            self.world.phases[_pool_key(body)][_phase(body)] += by


def make_order(key: Key, uid: str, spec: TaskSpec, now: datetime) -> Order:
    """The object as the broker takes it."""
    envelope = Envelope(
        id=uid,
        handler=spec.handler,
        task_class=spec.task_class,
        enqueued=now,
        deadline=spec.deadline,
        retry=make_retry(spec.retry),
        object=key.name,
    )
    payload = {"args": spec.args, "kwargs": spec.kwargs}
    return Order(PoolKey(key.namespace, spec.pool), envelope, payload, spec.not_before)


def _pool_key(body: Body) -> PoolKey:
    return PoolKey(body["metadata"]["namespace"], body["spec"]["pool"])


def _phase(body: Body) -> str:
    return str((body.get("status") or {}).get("phase") or "Pending")


def _parse(body: Body) -> _Parsed:
    spec = TaskSpec.model_validate(body["spec"])
    meta = body["metadata"]
    return _Parsed(
        key_of(body),
        meta["uid"],
        meta.get("generation", 0),
        PoolKey(meta["namespace"], spec.pool),
        spec,
        TaskStatus.model_validate(body.get("status") or {}),
    )
