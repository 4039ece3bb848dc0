"""taskiq-nats: pull-based JetStream broker on a work-queue stream, results in its object store, ack when saved."""

import asyncio
import sys

import meter
import uvloop
from nats.js.api import RetentionPolicy, StreamConfig
from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker

broker = PullBasedJetStreamBroker(
    [meter.URL],
    stream_name="tasks",
    stream_config=StreamConfig(name="tasks", subjects=["taskiq_tasks"], retention=RetentionPolicy.WORK_QUEUE),
    pull_consume_batch=meter.SLOTS,
    # Without one, a pull waits until its batch is full.
    pull_consume_timeout=1.0,
).with_result_backend(NATSObjectStoreResultBackend([meter.URL]))


@broker.task
async def noop(sent: float) -> int:
    meter.note(sent)
    return 1


async def submit() -> None:
    await broker.startup()
    for start in range(0, meter.TASKS, 200):
        await asyncio.gather(*(noop.kiq(0.0) for _ in range(min(200, meter.TASKS - start))))
    await broker.shutdown()


async def paced() -> None:
    await broker.startup()
    await meter.await_first(noop.kiq)
    await meter.apace(noop.kiq)
    await broker.shutdown()


async def work() -> None:
    broker.is_worker_process = True
    await broker.startup()
    await run_receiver_task(broker, max_async_tasks=meter.SLOTS, ack_time=AcknowledgeType.WHEN_SAVED)


if __name__ == "__main__":
    uvloop.run({"submit": submit, "paced": paced, "work": work}[sys.argv[1]]())
