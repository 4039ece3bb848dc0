"""Fairness between keys of one class: which lane a task waits in. Pure; the time is an argument.

Owns the choice of the submitter, client and operator alike. A class that is fair has lanes: FIFO queues of their own
that workers serve in turn, one task each. A key belongs to two lanes (by hash) and its tasks go to the one in which
fewer tasks of others wait, so that a key meets a crowd only if both its lanes hold one (two choices: Mitzenmacher, "The
power of two choices in randomized load balancing", 2001). It survives a view that is old or missing: then the choice is
merely less good.
"""

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from millpond_api import subjects

META_LANES = "millpond.dev/lanes"
"""Metadata of a class's consumer: how many lanes the class has; 0 when it had some once, absent when it never had."""
VIEW_AGE = 1.0
"""Seconds that a submitter goes by what it saw: one look a second at most, and none without a fairness key."""
CROWD = 8
"""A key moves to its other lane when this many more tasks of others wait in its own: less is not worth its order."""
REMEMBERED = 4096
"""Keys whose lane is remembered; the one used longest ago goes first, and is then chosen anew."""

Counts = Mapping[tuple[str, str], int]
"""Tasks waiting and in flight by (class, lane)."""


def lane_pair(key: str, lanes: int) -> tuple[str, str]:
    """The two lanes, of so many, that a key belongs to; the same one twice if there is only one."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    first, step = int.from_bytes(digest[:4], "big") % lanes, int.from_bytes(digest[4:], "big")
    second = (first + 1 + step % (lanes - 1)) % lanes if lanes > 1 else first
    return f"{first:x}", f"{second:x}"


def has_lanes(info: Mapping[str, Any]) -> bool:
    """Whether the class of this consumer (an answer to `CONSUMER.INFO`) has lanes, or had some once."""
    return META_LANES in (info["config"].get("metadata") or {})


def read_counts(info: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """The lanes in an answer to `STREAM.INFO` with `subjects_filter`; a class's own line has the lane "".

    A subject that is none of ours (anybody may publish below the pool's) is left out.
    """
    found = {}
    for subject, count in ((info.get("state") or {}).get("subjects") or {}).items():
        with contextlib.suppress(ValueError):
            found[subjects.parse_tasks(subject)] = int(count)
    return found


@dataclass(slots=True)
class _Choice:
    lane: str
    own: int = 0
    """Of the tasks in that lane, ours (at most)."""


@dataclass(slots=True)
class _View:
    at: float
    counts: dict[tuple[str, str], int] = field(default_factory=dict)


class LaneChoices:
    """The lanes of the keys that one submitter uses. `pool` is whatever names a pool to him."""

    def __init__(self) -> None:
        self._views: dict[Hashable, _View] = {}
        self._chosen: OrderedDict[tuple[Hashable, str, str], _Choice] = OrderedDict()

    def needs_look(self, pool: Hashable, now: float) -> bool:
        """Whether `saw` should be told first what waits in the pool's lanes."""
        view = self._views.get(pool)
        return view is None or now - view.at >= VIEW_AGE

    def saw(self, pool: Hashable, counts: Counts, now: float) -> None:
        """What waits in the pool's lanes now; empty when it could not be read."""
        self._views[pool] = _View(now, dict(counts))
        for (of, task_class, _), choice in self._chosen.items():
            if of == pool:
                choice.own = min(choice.own, counts.get((task_class, choice.lane), 0))

    def choose(self, pool: Hashable, task_class: str, key: str, lanes: int) -> str:
        """The lane for one more task of this key; counts it in."""
        counts = self._views.setdefault(pool, _View(0.0)).counts
        first, second = lane_pair(key, lanes)
        choice = self._chosen.setdefault((pool, task_class, key), _Choice(first))
        self._chosen.move_to_end((pool, task_class, key))
        if len(self._chosen) > REMEMBERED:
            self._chosen.popitem(last=False)
        if choice.lane not in (first, second):
            choice.lane, choice.own = first, 0
        other = second if choice.lane == first else first
        others = counts.get((task_class, choice.lane), 0) - choice.own
        if others >= counts.get((task_class, other), 0) + CROWD:
            choice.lane, choice.own = other, 0
        choice.own += 1
        counts[task_class, choice.lane] = counts.get((task_class, choice.lane), 0) + 1
        return choice.lane
