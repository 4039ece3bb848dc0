"""Millpond: the app of the worker, and its client."""

import sys
import time

import meter
import uvloop
from millpond import App, Client

app = App()


@app.task("noop")
async def noop(sent: float) -> int:
    meter.note(sent)
    return 1


async def submit() -> None:
    async with Client.connect(meter.URL, namespace="bench") as client:
        for start in range(0, meter.TASKS, 1000):
            count = min(1000, meter.TASKS - start)
            await client.submit_many("bench", "noop", [[time.monotonic()]] * count)


async def paced() -> None:
    async with Client.connect(meter.URL, namespace="bench") as client:
        await meter.await_first(lambda sent: client.submit("bench", "noop", [sent]))
        await meter.apace(lambda sent: client.submit("bench", "noop", [sent]))


if __name__ == "__main__":
    uvloop.run({"submit": submit, "paced": paced}[sys.argv[1]]())
