"""The rescue: what the broker has lost is submitted again (protocol.md: the claim makes a repetition safe).

A Task object is its own intention. When the queue of its pool is empty and nobody runs anything, yet its log has not
ended for a while, its message is gone: NATS lost its data, or an operator died at a bad
moment.
"""

import time
from datetime import UTC, datetime, timedelta

import structlog
from millpond_api.lifecycle import TaskState

from millpond_operator.broker import tasks as broker
from millpond_operator.broker.tasks import Order
from millpond_operator.cluster_key import PoolKey
from millpond_operator.handlers.projecting import Projector
from millpond_operator.handlers.task_objects import LIVE, TaskObject, make_order, parse, phase_of
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)


class Rescuer:
    """`heal` looks at every Task that has not ended."""

    def __init__(self, world: World, projector: Projector) -> None:
        self.world = world
        self.projector = projector

    async def heal(self) -> None:
        """What should have moved and did not: project it again, and submit again what the broker has lost."""
        now, patience = datetime.now(UTC), timedelta(seconds=self.world.settings.rescue_seconds)
        self.projector.project_live()
        for body in list(self.world.tasks.objects.values()):
            if phase_of(body) not in LIVE:
                continue
            task = parse(body)
            memory = self.world.memory[task.pool]
            quiet = memory.queue_ready and memory.lag == 0 and not self._in_flight(task.pool)
            if quiet and (task.status.queued_at or now) < now - patience:
                await self._rescue(task, now, patience)

    async def _rescue(self, task: TaskObject, now: datetime, patience: timedelta) -> None:
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
            # The message that was lost: later than every one that the log has seen the end of.
            update = {"attempt": attempt, "snoozes": last.snoozes, "spent": last.spent}
            order = Order(order.pool, order.envelope.model_copy(update=update), order.payload)
        log.warning(
            "a task's message was lost; it is submitted again", task=str(task.key), attempt=order.envelope.attempt
        )
        await broker.submit(self.world.transport, order, msg_id=f"{task.uid}.rescue.{time.time_ns()}")

    def _in_flight(self, pool: PoolKey) -> int:
        return sum(len(worker.beat.in_flight) for _, worker in self.world.workers_of(pool) if worker.beat)
