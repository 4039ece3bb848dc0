"""faststream on JetStream: pull subscriber on a work-queue stream, the return value published to a results stream."""

import asyncio
import logging
import sys

import meter
import nats
import uvloop
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from nats.js.api import RetentionPolicy

broker = NatsBroker(meter.URL, logger=None, log_level=logging.ERROR)
tasks = JStream(name="tasks", retention=RetentionPolicy.WORK_QUEUE)
results = JStream(name="results")


@broker.subscriber(
    "tasks",
    stream=tasks,
    durable="tasks",
    pull_sub=PullSub(batch_size=meter.SLOTS, timeout=1.0),
    max_workers=meter.SLOTS,
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
@broker.publisher("results", stream=results)
async def noop(sent: float) -> int:
    meter.note(sent)
    return 1


async def submit() -> None:
    async with broker:
        for start in range(0, meter.TASKS, 200):
            count = min(200, meter.TASKS - start)
            await asyncio.gather(*(broker.publish(0.0, "tasks", stream="tasks") for _ in range(count)))


async def prepare() -> None:
    """The streams that the broker would make when it starts."""
    connection = await nats.connect(meter.URL)
    stream = connection.jetstream()
    await stream.add_stream(name="tasks", subjects=["tasks"], retention=RetentionPolicy.WORK_QUEUE)
    await stream.add_stream(name="results", subjects=["results"])
    await connection.close()


async def paced() -> None:
    async with broker:
        await meter.await_first(lambda sent: broker.publish(sent, "tasks", stream="tasks"))
        await meter.apace(lambda sent: broker.publish(sent, "tasks", stream="tasks"))


async def work() -> None:
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run({"submit": submit, "paced": paced, "work": work, "prepare": prepare}[sys.argv[1]]())
