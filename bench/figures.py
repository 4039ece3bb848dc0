"""Figures of a run: from measured rounds to percentiles, and from those to tables.

Pure. Times are seconds. A percentile of few rounds is the nearest rank, never an interpolation: with five rounds p99 is
the slowest one, and a table says how many rounds there were.
"""

import math
from collections.abc import Iterable, Sequence

from pydantic import BaseModel


class Round(BaseModel):
    """One measured change of a pool's size; `seconds` is None when it did not come within the limit."""

    setup: str
    scenario: str
    seconds: float | None
    patches: int
    """Changes of spec.replicas that a watch saw until the wanted number was reached."""


class Spread(BaseModel):
    """Of the rounds that came to an end: the middle, the tail and the slowest, in seconds."""

    rounds: int
    missed: int
    p50: float | None
    p99: float | None
    slowest: float | None
    patches: int
    """The most patches that any round took."""


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that at least `share` of the values do not exceed."""
    if not values:
        raise ValueError("there is no percentile of nothing: measure at least one round")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(rounds: Iterable[Round]) -> Spread:
    """The figures of rounds of one set-up and scenario."""
    found = list(rounds)
    seconds = [one.seconds for one in found if one.seconds is not None]
    return Spread(
        rounds=len(found),
        missed=len(found) - len(seconds),
        p50=percentile(seconds, 0.5) if seconds else None,
        p99=percentile(seconds, 0.99) if seconds else None,
        slowest=max(seconds, default=None),
        patches=max((one.patches for one in found), default=0),
    )


def format_time(seconds: float | None) -> str:
    """`42 ms`, `1.20 s`, `38.4 s`; a dash for what never came."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def make_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table, padded so that it reads in a terminal too."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def draw(line: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([draw(lines[0]), rule, *(draw(line) for line in lines[1:])])
