"""The weather of a storm: how many tasks of which length come when, and what is done to the pool meanwhile.

Pure, and the same for both sides: durations come from a seed, steps have their second. Lengths are spread evenly over
the logarithm, the short ones favoured (`skew`), so that few long tasks run beside many short ones.
"""

import random
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What is done to a side."""

    BOUNDS = "bounds"
    """minWorkers and maxWorkers are edited."""
    PIN = "kubectl scale"
    UNPIN = "unset"
    ROLL = "rollout"
    """The pod template's environment changes."""
    KILL = "kill the scaler"
    """The operator's leader is gone from one moment to the next."""
    DRAIN = "node drain"
    """The node is cordoned, every pod of the pool is evicted, and then the node is open again. Once in a weather."""


@dataclass(frozen=True)
class Step:
    """One thing that is done, `at` seconds after the beginning."""

    at: float
    action: Action
    least: int = 0
    most: int = 0


@dataclass(frozen=True)
class Load:
    """`tasks` of `shortest` to `longest` seconds in `waves`, one every `every` seconds."""

    tasks: int
    shortest: float
    longest: float
    skew: float
    waves: int = 1
    every: float = 0.0
    seed: int = 4

    def durations(self) -> list[float]:
        """Seconds of each task, always the same ones."""
        rng = random.Random(self.seed)
        ratio = self.longest / self.shortest
        return [round(self.shortest * ratio ** (rng.random() ** self.skew), 3) for _ in range(self.tasks)]

    def split(self) -> list[list[float]]:
        """The durations wave by wave."""
        found = self.durations()
        size = -(-len(found) // self.waves)
        return [found[start : start + size] for start in range(0, len(found), size)]


@dataclass(frozen=True)
class Weather:
    """A load and what is done to the pool while it is worked off."""

    name: str
    load: Load
    steps: tuple[Step, ...]
    concurrency: int
    most: int
    limit: float
    """Seconds after which nobody waits any longer for an empty queue."""


def _flap(bounds: list[tuple[int, int]], count: int, begin: float, every: float) -> list[Step]:
    return [Step(begin + every * n, Action.BOUNDS, *bounds[n % len(bounds)]) for n in range(count)]


FLAPPING = Weather(
    "20 flaps, tasks of 5–60 s",
    Load(tasks=80, shortest=5, longest=60, skew=1),
    # 18 s: longer than the 15 s at which the HPA looks, or it would not see every flap.
    tuple(_flap([(0, 1), (0, 6)], 20, begin=40, every=18)),
    concurrency=1,
    most=6,
    limit=780,
)
STORM = Weather(
    "10,000 tasks of 0.1–20 s",
    Load(tasks=10_000, shortest=0.1, longest=20, skew=2, waves=20, every=20),
    (
        *_flap([(0, 6), (0, 2), (3, 6), (0, 1), (0, 5), (1, 3)], 30, begin=20, every=15),
        Step(62, Action.PIN, most=2),
        Step(82, Action.UNPIN),
        Step(120, Action.ROLL),
        Step(200, Action.KILL),
        Step(260, Action.DRAIN),
        Step(350, Action.ROLL),
        Step(422, Action.PIN, most=5),
        Step(442, Action.UNPIN),
        Step(475, Action.BOUNDS, 0, 6),
    ),
    # A hundred slots in few workers: tasks that sleep cost nothing, and interpreters that start cost the cores.
    concurrency=16,
    most=6,
    limit=720,
)
