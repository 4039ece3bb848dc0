"""procrastinate: psycopg, one worker; what becomes of a job stays in its row, a return value is not kept."""

import asyncio
import sys

import meter
import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=meter.URL))


@app.task(name="noop")
async def noop(sent: float) -> int:
    meter.note(sent)
    return 1


async def submit() -> None:
    async with app.open_async():
        for start in range(0, meter.TASKS, 1000):
            await noop.batch_defer_async(*[{"sent": 0.0}] * min(1000, meter.TASKS - start))


async def prepare() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def paced() -> None:
    async with app.open_async():
        await meter.await_first(lambda sent: noop.defer_async(sent=sent))
        await meter.apace(lambda sent: noop.defer_async(sent=sent))


async def work() -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=meter.SLOTS, install_signal_handlers=False)


if __name__ == "__main__":
    asyncio.run({"submit": submit, "paced": paced, "work": work, "prepare": prepare}[sys.argv[1]]())
