"""A worker's side of the protocol in a few lines, for tests of the client: writes the events that a worker would.

Owns nothing of the worker's code on purpose: the client is tested against what stands on the wire.
"""

from typing import Any

from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.events import TaskEvent, utc_now
from nats.aio.client import Client as Connection

from tests.support.nats import jetstream


class TaskLog:
    """The log of one task, written as a worker writes it."""

    def __init__(self, connection: Connection, queue: QueueConfig, task: str) -> None:
        self.connection, self.queue = connection, queue
        self._js = jetstream(connection)
        self._subject = subjects.task_events(queue.namespace, queue.pool, task)
        self.sequence = 0

    async def write(self, state: str, attempt: int = 1, worker: str = "w1", **more: Any) -> int:
        """Store an event expecting the last one that this log knows of."""
        event = TaskEvent(state=state, attempt=attempt, at=utc_now(), worker=worker, **more)
        headers = {subjects.HEADER_EXPECTED_SEQUENCE: str(self.sequence)}
        self.sequence = (await self._js.publish(self._subject, event.encode(), headers=headers)).seq
        return self.sequence
