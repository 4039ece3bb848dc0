"""pgqueuer: asyncpg, batches; what becomes of a job is logged, a return value is not kept (it has none).

With BENCH_VARIANT=results the handler keeps one itself: a row in a table, over a pool of connections.
"""

import sys

import asyncpg
import meter
import uvloop
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries


async def connect() -> Queries:
    return Queries(AsyncpgDriver(await asyncpg.connect(meter.URL)))


async def submit() -> None:
    queries = await connect()
    for start in range(0, meter.TASKS, 1000):
        count = min(1000, meter.TASKS - start)
        await queries.enqueue(["noop"] * count, [b"0.0"] * count, [0] * count)


async def paced() -> None:
    queries = await connect()

    async def many(sent: float, count: int) -> None:
        # One connection takes one statement at a time, of as many rows as are due.
        await queries.enqueue(["noop"] * count, [b"%r" % sent] * count, [0] * count)

    await meter.await_first(lambda sent: many(sent, 1))
    await meter.apace_many(many)


async def prepare() -> None:
    await (await connect()).install()
    connection = await asyncpg.connect(meter.URL)
    await connection.execute("CREATE TABLE results (job bigint PRIMARY KEY, value jsonb)")


async def work() -> None:
    manager = QueueManager(await connect())
    if meter.VARIANT == "results":
        pool = await asyncpg.create_pool(meter.URL, min_size=20, max_size=20)

        @manager.entrypoint("noop")
        async def kept(job: Job) -> None:
            meter.note(float(job.payload or b"0"))
            await pool.execute("INSERT INTO results VALUES ($1, $2)", job.id, "1")

        return await manager.run(batch_size=meter.SLOTS)

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        meter.note(float(job.payload or b"0"))

    return await manager.run(batch_size=meter.SLOTS)


if __name__ == "__main__":
    uvloop.run({"submit": submit, "paced": paced, "work": work, "prepare": prepare}[sys.argv[1]]())
