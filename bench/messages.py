"""Messages to a running task in figures, beside raw NATS requests: `python -m bench.messages [--turns N]`.

Owns one run: a server, a worker process and a task that answers. In turns, so that all of them meet the same machine:
a raw request to a trivial responder process; a query; a signal, there (stored) and there and back (the handler answers
each by a request of its own, as soon as it has taken it). Rows are milliseconds.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from millpond import NotRunning, TaskHandle, UnknownQuery
from millpond.transport import Message
from millpond_api.broker import QueueConfig

from bench.leases import ECHO, RESPONDER, WARM_UP, say, timed
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.support.workers import LEASE, START, Mill, running_mill

APP = "tests.support.isolated_app:app"
TURNS = 2000


class Echoes:
    """Signals that come back: the handler publishes on `subject` what it was sent."""

    subject = "bench.signalled"

    def __init__(self) -> None:
        self._back = asyncio.Event()

    async def hear(self, message: Message) -> None:
        self._back.set()

    async def round_trip(self, task: TaskHandle) -> None:
        self._back.clear()
        await task.signal("echo", self.subject)
        await self._back.wait()


async def measure(mill: Mill, turns: int) -> None:
    """All of them in turns."""
    words = [sys.executable, "-c", RESPONDER, mill.server.url]
    responder = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    found: defaultdict[str, list[float]] = defaultdict(list)
    try:
        assert responder.stdout is not None
        await responder.stdout.readline()
        await mill.start("w1", app=APP, beat=1.0)
        transport, echoes = mill.client.transport, Echoes()
        await transport.subscribe(echoes.subject, echoes.hear)
        task = await mill.client.submit("mill", "inline.echo-signals")
        await eventually(lambda: answers(task), START, "the handler")
        for turn in range(WARM_UP + turns):
            took = {
                "raw NATS request to a trivial responder": await timed(lambda: transport.request(ECHO, b'{"n": 1}')),
                "query to a running task": await timed(lambda: task.query("alive")),
                "signal, until it is stored": await timed(lambda: task.signal("note")),
                "signal, there and back": await timed(lambda: echoes.round_trip(task)),
            }
            for name, one in took.items() if turn >= WARM_UP else ():
                found[name].append(one)
        await task.signal("end")
        await task.result(timeout=START)
    finally:
        responder.kill()
        await responder.wait()
    print(f"{'milliseconds':44} {'n':>6} {'p50':>9} {'p99':>9} {'mean':>9}")
    for name, seconds in found.items():
        say(name, seconds)


async def answers(task: TaskHandle) -> bool:
    try:
        return bool(await task.query("alive"))
    except (NotRunning, UnknownQuery):
        return False


async def run(turns: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = NatsServer(Path(directory) / "nats")
        server.start()
        try:
            async with running_mill(server, QueueConfig("bench", "mill", lease=LEASE), Path(directory)) as mill:
                await measure(mill, turns)
        finally:
            server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=TURNS, help="of each kind, measured")
    asyncio.run(run(parser.parse_args().turns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
