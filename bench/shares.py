"""Shares of classes and of keys under saturation, as a table: `python -m bench.shares`.

Owns a pool on a nats-server of its own with workers in this process. What it shows is the order in which tasks
start; how fast they start depends on the machine and is not shown.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass

from millpond_api.broker import QueueConfig

from tests.support.bed import Bed, open_bed
from tests.support.nats import NatsServer
from tests.support.nats_ground import NatsGround

WEIGHTS = {"high": 5, "default": 3, "low": 1}
SHAPES = ((1, 1), (1, 16), (8, 1), (4, 8))
"""(workers, slots of each)."""
STARTS = 500
HEAVY, LIGHT = 10_000, 10


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    workers: int
    slots: int
    cells: tuple[str, ...]

    def __str__(self) -> str:
        return f"| {self.workers} | {self.slots} | " + " | ".join(self.cells) + " |"


async def measure_classes(bed: Bed, workers: int, slots: int) -> Row:
    """Shares of the first 500 starts, with 300 tasks waiting in each class."""
    starts = await _prepare(bed, classes=tuple(WEIGHTS))
    for name in WEIGHTS:
        await bed.client.submit_many("mill", "note", [[name]] * 300, priority=name)
    await _work(bed, workers, slots)
    await bed.until(lambda: len(starts) >= STARTS, "the starts", timeout=300.0)
    counts, total = Counter(starts[:STARTS]), sum(WEIGHTS.values())
    cells = [
        f"{counts[name] / STARTS:.3f} ({counts[name] / STARTS / (w / total) - 1:+.1%})" for name, w in WEIGHTS.items()
    ]
    return Row(workers, slots, tuple(cells))


async def measure_keys(bed: Bed, workers: int, slots: int, *, fair: bool) -> Row:
    """Where in the order of starts ten tasks come that were submitted behind ten thousand of another key."""
    starts = await _prepare(bed, classes=("default",), lanes=128 if fair else None)
    await bed.client.submit_many("mill", "note", [["heavy"]] * HEAVY, fair="heavy")
    await _work(bed, workers, slots)
    await bed.until(lambda: len(starts) >= 50, "the heavy key under way", timeout=300.0)
    await bed.client.submit_many("mill", "note", [["light"]] * LIGHT, fair="light")
    stored = len(starts)
    await bed.until(lambda: starts.count("light") == LIGHT, "the light key served", timeout=600.0)
    places = [place for place, who in enumerate(starts) if who == "light"]
    return Row(workers, slots, ("yes" if fair else "no", str(places[0] - stored), str(places[-1] - places[0] + 1)))


async def _prepare(bed: Bed, **queue: object) -> list[str]:
    starts: list[str] = []

    @bed.app.task("note")
    async def note(who: str) -> None:
        starts.append(who)

    await bed.change_pool(**queue)
    bed.settings = {
        "classes": bed.queue.classes,
        "weights": {n: w for n, w in WEIGHTS.items() if n in bed.queue.classes},
    }
    return starts


async def _work(bed: Bed, workers: int, slots: int) -> None:
    for number in range(workers):
        await bed.spawn_worker(f"w{number}", concurrency=slots)


async def main() -> None:
    """Both tables."""
    async with AsyncExitStack() as stack:
        server = NatsServer().start()
        stack.callback(server.remove)
        print(
            "| workers | slots | "
            + " | ".join(f"{name} ({w}/9)" for name, w in WEIGHTS.items())
            + " |\n|--|--|--|--|--|"
        )
        for place, (workers, slots) in enumerate(SHAPES):
            async with open_bed(NatsGround(server), QueueConfig(f"classes{place}", "mill")) as bed:
                print(await measure_classes(bed, workers, slots), flush=True)
        print("\n| workers | slots | fair | until its first | from its first to its tenth |\n|--|--|--|--|--|")
        for place, (workers, slots) in enumerate(SHAPES):
            async with open_bed(NatsGround(server), QueueConfig(f"keys{place}", "mill")) as bed:
                print(await measure_keys(bed, workers, slots, fair=True), flush=True)
        async with open_bed(NatsGround(server), QueueConfig("plain", "mill")) as bed:
            print(await measure_keys(bed, 4, 8, fair=False), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
