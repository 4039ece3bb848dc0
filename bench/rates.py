"""Is a pool's rate kept? `python -m bench.rates`: 100/s over four workers for a minute, one killed and restarted.

Owns one run on a nats-server of its own: a queue that is never empty, four worker processes that share the rate, a
SIGKILL after a third of the time and a new process at once. Starts are counted by the server's times of the claims in
MILLPOND_EVENTS; redelivered claims of the killed worker's tasks count too, because they are starts.
"""

import argparse
import asyncio
import json
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from millpond_api import subjects
from millpond_api.broker import QueueConfig

from tests.support.nats import NatsServer
from tests.support.workers import LEASE, Mill, running_mill

SPARE = 1.3
"""Tasks beyond what the rate can start, so that the queue never runs dry."""
BATCH = 500
GAP = 0.2
"""Seconds without a start that are told: what a killed worker had reserved leaves smaller holes."""


@dataclass(frozen=True)
class Plan:
    """One run: `rate` starts a second for `seconds`, after `lead` seconds in which the workers come up."""

    rate: int
    seconds: float
    workers: int
    burst: int
    lead: float = 5.0


async def run(plan: Plan, directory: Path) -> list[float]:
    """The server's times of all claims, in order."""
    server = NatsServer().start()
    try:
        async with running_mill(server, QueueConfig("bench", "mill", lease=LEASE), directory) as mill:
            total = int(plan.rate * (plan.seconds + plan.lead) * SPARE)
            for start in range(0, total, BATCH):
                await mill.client.submit_many("mill", "echo", [[n] for n in range(start, min(start + BATCH, total))])
            limits = json.dumps({"rate": {"count": plan.rate, "burst": plan.burst}})
            workers = [mill.spawn(f"w{number}", concurrency=20, limits=limits) for number in range(plan.workers)]
            for worker in workers:
                await mill.reaches(worker, "Idle", passed=True)
            await asyncio.sleep(plan.lead + plan.seconds / 3)
            workers[0].kill()
            mill.spawn("w0-again", concurrency=20, limits=limits)
            await asyncio.sleep(plan.seconds * 2 / 3 + 1)
            return await read_claims(mill)
    finally:
        server.remove()


async def read_claims(mill: Mill) -> list[float]:
    subject = subjects.task_events(mill.queue.namespace, mill.queue.pool, "x").removesuffix("x") + "*"
    events = mill.client.transport.read_range(subjects.STREAM_EVENTS, subject)
    return sorted([one.stored async for one in events if b'"state":"Running"' in one.body])


def judge(plan: Plan, times: list[float]) -> dict[str, object]:
    """What the minute after the lead held, and the fullest windows of it."""
    begin = times[0] + plan.lead
    inside = [time for time in times if begin <= time < begin + plan.seconds]
    return {
        "rate": plan.rate,
        "burst": plan.burst,
        "seconds": plan.seconds,
        "workers": plan.workers,
        "starts": len(inside),
        "perSecond": round(len(inside) / plan.seconds, 2),
        "deviationPercent": round((len(inside) / plan.seconds / plan.rate - 1) * 100, 2),
        "fullestSecond": fullest(times, 1.0),
        "fullestTenth": fullest(times, 0.1),
        "emptiestSecond": min(
            sum(1 for time in inside if begin + second <= time < begin + second + 1)
            for second in range(int(plan.seconds))
        ),
        "gaps": {round(at - begin, 1): round(length, 2) for at, length in find_gaps(times, GAP)},
    }


def find_gaps(times: list[float], seconds: float) -> list[tuple[float, float]]:
    """Where nobody started for longer than this, and for how long: a stall of the machine stops all workers at once."""
    return [(time, later - time) for time, later in pairwise(times) if later - time > seconds]


def fullest(times: list[float], seconds: float) -> int:
    """The most starts in any window of this length."""
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--burst", type=int, default=1)
    given = parser.parse_args()
    plan = Plan(given.rate, given.seconds, given.workers, given.burst)
    with tempfile.TemporaryDirectory(prefix="millpond-rates-") as directory:
        print(json.dumps(judge(plan, asyncio.run(run(plan, Path(directory)))), indent=2))


if __name__ == "__main__":
    main()
