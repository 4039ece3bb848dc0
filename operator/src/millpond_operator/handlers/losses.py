"""Beside the dead letter of a quarantined task: how its workers ended, which only the operator can see.

Owns one note for each such task, published beside the letter (the letter itself stays as its worker wrote it), and the
sentence on it in a Task's status. Idempotent: a note has the task's attempt in its Msg-Id, and a second one says the
same or more. It survives an operator that is not leading at that moment: then the letter names the workers alone.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from millpond.transport import Publish
from millpond_api import subjects
from millpond_api.durations import parse_duration
from millpond_api.events import LostWorker, TaskEvent
from millpond_api.lifecycle import TaskState, TaskView

from millpond_operator.broker import tasks as broker
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.losses import POISON, find_lost, make_loss, make_note
from millpond_operator.handlers.world import World

PATIENCE = 3.0
"""Seconds until the note is written: the kubelet tells how a container ended a moment after its lease has run out."""


class Quarantined(NamedTuple):
    """A task that ended as poison."""

    pool: PoolKey
    task: str


def read_losses(world: World, pool: PoolKey, view: TaskView) -> list[LostWorker]:
    """What is known of the workers that a quarantined task took with it; empty for any other task."""
    return [_read(world, Key(pool.namespace, worker)) for worker in find_lost(view)]


def _read(world: World, key: Key) -> LostWorker:
    memory, known = world.worker_memory.get(key), world.worker_status.get(key)
    ended = memory.pod.ended if memory and memory.pod else None
    return make_loss(key.name, ended, known.parse() if known else None)


class LossTeller:
    """`on_event` hears of every task that ended; `queue` writes the notes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: WorkQueue[Quarantined] = WorkQueue("losses", self.tell, concurrency=2)

    def on_event(self, pool: PoolKey, task_id: str, event: TaskEvent) -> None:
        """A task's log has moved."""
        if event.state == TaskState.FAILED and event.reason == POISON:
            self.queue.add_after(Quarantined(pool, task_id), PATIENCE)

    async def tell(self, which: Quarantined) -> None:
        """Write the note beside the dead letter."""
        view = await broker.read_view(self.world.transport, which.pool, which.task)
        losses = read_losses(self.world, which.pool, view)
        if view.last is None or not losses:
            return
        note = make_note(view.last.attempt, losses, datetime.now(UTC))
        spec = self.world.spec(which.pool)
        retention = spec.dead_letter.retention if spec else None
        msg_id = subjects.message_id(*which.pool, f"{which.task}.{note.attempt}.losses")
        # As long as the letter that it stands beside.
        options = Publish(msg_id=msg_id, ttl=parse_duration(retention) if retention else 0.0)
        await self.world.transport.publish_stored(
            subjects.dead_note(*which.pool, which.task), note.encode(), options=options
        )
