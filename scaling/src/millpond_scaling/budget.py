"""How many workers each pool of a group may have when together they need more than the group allows.

Owns the share alone; what a pool then does with its allowance is `decide`'s matter. In this order:

1. What is busy stays: a pool's allowance is never less than its busy workers, whatever the limit. It is not replaced
   either: `entitled` says what the pool would get without that, and what is above it should finish and go.
2. Floors (minWorkers), before anybody's extra.
3. The rest up to what is wanted.

In each of the last two a higher priority goes first, and equals share max-min fairly (water-filling, weighted): nobody
has more than another unless the other wants no more or the more is busy. A worker that can't be divided goes to who has
it already, then by name, so that nothing moves while nothing changes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Claim:
    """What one pool asks of its group's limit. All numbers are workers.

    `wanted` is what the pool would have without the group (its own bounds applied); `busy` workers run tasks now;
    `current` are asked for now.
    """

    name: str
    wanted: int
    current: int = 0
    busy: int = 0
    min_workers: int = 0
    priority: int = 0
    weight: float = 1.0
    """Of two pools of equal priority the one of weight 2 gets twice the workers."""


@dataclass(frozen=True)
class Share:
    """What a pool may have (`allowance`), and what it would get if its busy workers did not count (`entitled`)."""

    allowance: int
    entitled: int


def share(limit: int, claims: Iterable[Claim]) -> dict[str, Share]:
    """Every claim's share. The allowances add up to min(limit, demand), or to what is busy where that is more.

    The demand is what is wanted or busy, whichever is more, of each claim. Names must differ.
    """
    ordered = sorted(claims, key=lambda claim: claim.name)
    fair = _fill(limit, ordered, lambda claim: 0)
    allowed = _fill(limit, ordered, lambda claim: max(0, claim.busy))
    return {claim.name: Share(allowed[claim.name], fair[claim.name]) for claim in ordered}


def _fill(limit: int, claims: list[Claim], kept: Callable[[Claim], int]) -> dict[str, int]:
    given = {claim.name: kept(claim) for claim in claims}
    left = max(0, limit) - sum(given.values())
    floors = {claim.name: max(given[claim.name], min(claim.min_workers, claim.wanted)) for claim in claims}
    wishes = {claim.name: max(given[claim.name], claim.wanted) for claim in claims}
    by_priority = sorted(claims, key=lambda claim: -claim.priority)
    for most in (floors, wishes):
        for _, group in groupby(by_priority, key=lambda claim: claim.priority):
            left = _pour(left, list(group), given, most)
    return given


def _pour(left: int, group: list[Claim], given: dict[str, int], most: dict[str, int]) -> int:
    """Raise the lowest of the group, as water would, until nothing is left or all have their most; what is left."""
    left = max(0, left)
    left -= _level(left, group, given, most)
    while left and (thirsty := [claim for claim in group if given[claim.name] < most[claim.name]]):
        lowest = min(thirsty, key=lambda claim: _rank(claim, given[claim.name]))
        given[lowest.name] += 1
        left -= 1
    return left


def _level(left: int, group: list[Claim], given: dict[str, int], most: dict[str, int]) -> int:
    """Fill up to the highest whole level (workers for each weight of 1) that is affordable; how many that took.

    The rest is less than a worker for each claim, so that a limit of thousands takes no thousands of rounds.
    """

    def amounts(level: float) -> dict[str, int]:
        return {claim.name: max(given[claim.name], min(most[claim.name], int(level * claim.weight))) for claim in group}

    had = sum(given[claim.name] for claim in group)
    low, high = 0, 1 + int(max((most[claim.name] / claim.weight for claim in group), default=0.0))
    while low < high:
        level = (low + high + 1) // 2
        if sum(amounts(level).values()) - had <= left:
            low = level
        else:
            high = level - 1
    given.update(amounts(low))
    return sum(given[claim.name] for claim in group) - had


def _rank(claim: Claim, workers: int) -> tuple[float, bool, str]:
    """Who gets the next worker: who has least for its weight; of those, who runs one more already; then by name."""
    return ((workers + 1) / claim.weight, claim.current <= workers, claim.name)
