"""arq: one worker, results kept for an hour; it polls every 10 ms (its default of 500 ms would bound the rate)."""

import asyncio
import sys

import meter
import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

REDIS = RedisSettings.from_dsn(meter.URL)


async def noop(_ctx: dict, sent: float) -> int:
    meter.note(sent)
    return 1


async def submit() -> None:
    pool = await create_pool(REDIS)
    for start in range(0, meter.TASKS, 200):
        await asyncio.gather(*(pool.enqueue_job("noop", 0.0) for _ in range(min(200, meter.TASKS - start))))


async def paced() -> None:
    pool = await create_pool(REDIS)
    await meter.await_first(lambda sent: pool.enqueue_job("noop", sent))
    await meter.apace(lambda sent: pool.enqueue_job("noop", sent))


async def work() -> None:
    worker = Worker([noop], redis_settings=REDIS, max_jobs=meter.SLOTS, keep_result=3600, poll_delay=0.01)
    await worker.async_run()


if __name__ == "__main__":
    uvloop.run({"submit": submit, "paced": paced, "work": work}[sys.argv[1]]())
