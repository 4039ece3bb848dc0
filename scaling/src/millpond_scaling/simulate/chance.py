"""Seeded chance: the only place of the simulator with randomness, and the same on every version of Python.

Everything is made from `Random.random()`, whose sequence for a seed Python promises to keep; the other methods of that
class may change between versions, and the committed tables with them.
"""

import math
from random import Random  # noqa: TID251  # seeded, and an argument of everything that uses it
from statistics import NormalDist

_NORMAL = NormalDist()


class Chance:
    """A stream of chance of its own: `name` keeps the streams of one seed apart."""

    def __init__(self, seed: int, name: str) -> None:
        self._random = Random(f"{seed}/{name}")

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * self._random.random()

    def exponential(self, mean: float) -> float:
        return -mean * math.log(1.0 - self._random.random())

    def lognormal(self, median: float, sigma: float) -> float:
        """`median` times e to a normal deviate of `sigma`; the median itself when sigma is 0."""
        # random() may be 0.0, where the inverse has no value.
        share = min(max(self._random.random(), 1e-12), 1 - 1e-12)
        return median * math.exp(sigma * _NORMAL.inv_cdf(share))
