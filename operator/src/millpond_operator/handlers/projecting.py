"""The status of Task objects, projected from their logs.

Events are hints that a log has moved: the whole log is read and the status made anew from it, so what is missed,
repeated or late delays a status and never falsifies it. It submits nothing and ends nothing: `tasks` does.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from millpond_api.events import TaskEvent
from millpond_api.lifecycle import TERMINAL, TaskState

from millpond_operator import metrics
from millpond_operator.broker import tasks as broker
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.losses import say_losses
from millpond_operator.decisions.projection import is_news, project
from millpond_operator.handlers.losses import read_losses
from millpond_operator.handlers.task_objects import LIVE, parse, phase_of
from millpond_operator.handlers.world import World

GATHER = 0.25
"""Seconds in which what happens to a task is written as one status: a short task then costs one write, not three."""


class Projector:
    """`on_event` hears that a log has moved; `queue` works it off."""

    def __init__(self, world: World, look_again: Callable[[Key], None]) -> None:
        self.world = world
        self.queue: WorkQueue[Key] = WorkQueue("projection", self.project, concurrency=16)
        self._look_again = look_again

    def on_event(self, pool: PoolKey, task_id: str, event: TaskEvent) -> None:
        """A task's log has moved."""
        metrics.TASKS.labels(*pool, event.state).inc()
        if not event.object:
            return
        key = Key(pool.namespace, event.object)
        if event.state in TERMINAL:
            self.queue.add(key)
        else:
            self.queue.add_after(key, GATHER)

    async def project(self, key: Key) -> None:
        """Make the status from the whole log."""
        body = self.world.tasks.get(*key)
        if body is None:
            return
        task = parse(body)
        view = await broker.read_view(self.world.transport, task.pool, task.uid)
        if view.last is None or not is_news(task.status, view.last):
            return
        if view.last.sequence < task.status.observed_sequence:
            # NATS has lost its data and counts anew: what was written before has no rank any more.
            self.world.writer.forget(task.target)
        before = task.status.model_copy(
            update={"task_id": task.uid, "queued_at": task.status.queued_at or self.world.submitted.get(task.uid)}
        )
        status = project(before, view, datetime.now(UTC), task.generation)
        losses = say_losses(read_losses(self.world, task.pool, view))
        if losses:
            status = status.model_copy(update={"message": f"{status.message}; {losses}"[:1024]})
        self.world.writer.put(task.target, status.to_manifest(), rank=view.last.sequence)
        if view.terminal:
            self.world.submitted.pop(task.uid, None)
            if view.state == TaskState.FAILED and task.status.phase != "Failed":
                self.world.tell(body, "Task", "Failed", status.message or status.reason, warning=True)

    def project_all(self) -> None:
        """After a start or a reconnect, when events may have been missed: read the log of each task that has not ended.

        A Pending one may have a log too: its submission reached the queue, and who made it was killed, or cut off,
        before it could write so.
        """
        for key, body in self.world.tasks.objects.items():
            if phase_of(body) == "Pending":
                self.queue.add(key)
        self.project_live()

    def project_live(self) -> None:
        """Read the log of every task that was submitted and has not ended; look at the others again."""
        for key, body in self.world.tasks.objects.items():
            phase = phase_of(body)
            if phase in LIVE:
                self.queue.add(key)
            elif phase not in TERMINAL:
                self._look_again(key)
