"""How fast tasks go in and through: the client's submit rate, and no-op tasks through one worker process.

Starts a nats-server and a worker of its own in a temporary directory and ends both. It measures and prints, it judges
nothing: on a shared machine wall time says little, so the CPU seconds of this process stand beside it.

    python -m bench.throughput [tasks] [slots]
"""

import sys
import tempfile
import time
from pathlib import Path

import uvloop
from millpond import App, Client
from millpond_api import subjects
from millpond_api.broker import QueueConfig

from tests.support.eventually import eventually
from tests.support.nats import NatsServer, connected, ensure_pool
from tests.support.workers import Mill

POOL = "bench"
ROOT = Path(__file__).parents[1]
app = App()


@app.task("noop")
async def noop(number: int) -> None:
    """The smallest task: what remains is Millpond's own cost."""


async def submit(client: Client, tasks: int) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    await client.submit_many(POOL, "noop", ([number] for number in range(tasks)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"submit      {tasks / wall:9,.0f} tasks/s   {cpu / tasks * 1e6:6.0f} µs of CPU each in the client", flush=True
    )


async def one_by_one(client: Client, rounds: int = 200) -> None:
    """Submit and result, one after the other: the latency of a task that finds a free slot."""
    taken = []
    for number in range(rounds):
        begun = time.perf_counter()
        await (await client.submit(POOL, "noop", [number])).result(60)
        taken.append((time.perf_counter() - begun) * 1000)
    taken.sort()
    print(
        f"round trip  p50 {taken[rounds // 2]:.1f} ms   p99 {taken[rounds * 99 // 100]:.1f} ms   max {taken[-1]:.1f} ms"
    )


async def work_off(mill: Mill, tasks: int, slots: int) -> None:
    """The time from the first claim to the last ack."""
    stream = subjects.pool_stream(mill.queue.namespace, POOL)
    begun: list[float] = []

    async def done() -> bool:
        info = await mill.connection.jetstream().stream_info(stream)
        if info.state.messages < tasks and not begun:
            begun.append(time.perf_counter())
        return info.state.messages == 0

    mill.spawn("bench", app="bench.throughput:app", concurrency=slots, directory=ROOT)
    await eventually(done, 600, "an empty queue")
    rate = tasks / (time.perf_counter() - begun[0])
    print(f"work off    {rate:9,.0f} tasks/s   one worker process, {slots} slots, claim, commit and ack confirmed")


async def main(tasks: int, slots: int) -> None:
    server = NatsServer().start()
    queue = QueueConfig("bench", POOL, max_depth=max(tasks, 1000) * 2)
    try:
        await ensure_pool(server.url, queue)
        with tempfile.TemporaryDirectory() as directory:
            async with Client.connect(server.url, namespace="bench") as client, connected(server.url) as connection:
                mill = Mill(server, queue, client, Path(directory), connection)
                try:
                    await submit(client, tasks)
                    await work_off(mill, tasks, slots)
                    await one_by_one(client)
                finally:
                    mill.stop_all()
    finally:
        server.remove()


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    uvloop.run(main(given[0] if given else 20_000, given[1] if len(given) > 1 else 100))
