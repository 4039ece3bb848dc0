"""The tasks' logs as they stand in MILLPOND_EVENTS: what was committed, in the order of the stream.

Owns reading; it writes nothing. A read that breaks off is an error, never a shorter log.
"""

from collections.abc import Sequence

from millpond_api import subjects
from millpond_api.events import TaskEvent
from nats.aio.client import Client as Connection
from nats.js.api import AckPolicy, ConsumerConfig

from tests.support.nats import connected

BATCH = 500


async def read_logs(url: str, namespace: str, pool: str) -> dict[str, Sequence[TaskEvent]]:
    """Every task's log of a pool by task id."""
    subject = subjects.task_events(namespace, pool, "x").removesuffix("x") + "*"
    async with connected(url) as connection:
        return await _read(connection, subject)


async def _read(connection: Connection, subject: str) -> dict[str, Sequence[TaskEvent]]:
    found: dict[str, list[TaskEvent]] = {}
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    stream = connection.jetstream()
    consumer = await stream.pull_subscribe(subject, stream=subjects.STREAM_EVENTS, config=config)
    left = (await consumer.consumer_info()).num_pending or 0
    while left > 0:
        messages = await consumer.fetch(min(left, BATCH), timeout=30)
        for message in messages:
            event = TaskEvent.decode(message.data)
            found.setdefault(subjects.parse_event(message.subject)[1].name, []).append(event)
        left -= len(messages)
    await consumer.unsubscribe()
    return dict(found)
