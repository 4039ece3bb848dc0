"""Whose turn it is among the priority classes: pure, without clock, randomness or I/O.

Owns the shares. Weighted is start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996): a class that is served gets its
next start 1/weight later, the earliest start among those that have something goes first. A class that had nothing
comes back at the present virtual time, so it is served next and never makes up for the time in which it wanted nothing.
Every worker decides alone; its `phase` sets where in the cycle it begins, so that workers that start together do not
serve the same class at once. It must not know what waits: callers say which classes may have something.
"""

from collections.abc import Collection, Mapping
from typing import Self


class Turns:
    """The order of classes. `weights` is in priority order; with `strict` the first that has something wins."""

    def __init__(self, weights: Mapping[str, float], *, strict: bool = False, phase: float = 0.0) -> None:
        if not weights or min(weights.values()) <= 0:
            raise ValueError("every class needs a weight above 0")
        self._order = {name: place for place, name in enumerate(weights)}
        self._step = {name: 1.0 / weight for name, weight in weights.items()}
        self._start = {name: phase * step for name, step in self._step.items()}
        self._now = 0.0
        self._strict = strict

    def copy(self) -> Self:
        """The same state, for trying turns that may not come true."""
        twin = object.__new__(type(self))
        twin._order, twin._step, twin._strict = self._order, self._step, self._strict
        twin._start, twin._now = dict(self._start), self._now
        return twin

    def pick(self, waiting: Collection[str]) -> str:
        """Whose turn it is among `waiting` (not empty). Changes nothing: `charge` does, once it was really served."""
        if self._strict:
            return min(waiting, key=self._order.__getitem__)
        return min(waiting, key=lambda name: (self._from(name), self._order[name]))

    def charge(self, name: str, count: int = 1) -> None:
        """`count` tasks of this class were started."""
        if count > 0:
            self._now = max(self._now, self._from(name))
            self._start[name] = self._from(name) + count * self._step[name]

    def _from(self, name: str) -> float:
        return max(self._now, self._start[name])
