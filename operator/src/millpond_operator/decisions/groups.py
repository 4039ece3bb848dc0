"""Which pools share a PoolGroup's ceiling, how much of it may be used right now, and how that is told: pure.

Owns what happens between the fair shares (`millpond_scaling.budget`) and the moment: a pool whose share fell keeps its
busy workers until they are done, so what others may add now is only what is really free. The sum of what pools have
never exceeds the ceiling by growth.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.conditions import Fact

NAMED = 5


@dataclass(frozen=True)
class Member:
    """A pool of a group: workers it has or was promised, workers it needs, workers that its share allows."""

    key: PoolKey
    held: int
    demand: int
    share: int
    priority: int = 0


def is_member(labels: Mapping[str, str], match_labels: Mapping[str, str]) -> bool:
    """Whether a pool with these labels belongs to a group with this selector."""
    return all(labels.get(name) == value for name, value in match_labels.items())


def grant(limit: int, members: Iterable[Member]) -> dict[PoolKey, int]:
    """The most workers that each may be given now: its share, as far as others do not hold the room still.

    A pool above its share gets its share, so it shrinks; one below grows only into what nobody holds, higher priority
    first, then by name.
    """
    ordered = sorted(members, key=lambda one: (-one.priority, one.key))
    free = max(0, limit - sum(one.held for one in ordered))
    granted: dict[PoolKey, int] = {}
    for one in ordered:
        more = min(max(0, one.share - one.held), free)
        free -= more
        granted[one.key] = min(one.share, one.held + more)
    return granted


def decide_group_facts(limit: int, members: list[Member]) -> list[Fact]:
    """Ready and Limited of a group, each with one sentence."""
    demand, held = sum(one.demand for one in members), sum(one.held for one in members)
    ready = Fact("Ready", True, "Sharing" if members else "NoPools", _ready_text(limit, members, held))
    if demand <= limit:
        return [ready, Fact("Limited", False, "Enough", f"the pools need {demand} of {limit} workers")]
    short = sorted((one for one in members if one.share < one.demand), key=lambda one: (-one.priority, one.key))
    told = [f"{one.key.pool} gets {one.share} of {one.demand}" for one in short[:NAMED]]
    if len(short) > NAMED:
        told.append(f"{len(short) - NAMED} more get less than they need")
    text = f"the pools need {demand} workers, maxWorkers allows {limit}: {', '.join(told)}"
    return [ready, Fact("Limited", True, "MaxWorkers", text)]


def _ready_text(limit: int, members: list[Member], held: int) -> str:
    if not members:
        return "no pool of the namespace matches spec.selector"
    return f"{len(members)} pools have {held} of {limit} workers"


def labels_of(body: dict[str, Any]) -> dict[str, str]:
    """A pool's labels."""
    labels: dict[str, str] = body["metadata"].get("labels") or {}
    return labels
