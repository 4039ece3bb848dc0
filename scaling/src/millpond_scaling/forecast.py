"""A floor ahead of the rush, from the pool's own history: what was needed at this time of the day or of the week.

Owns the seasonal profile, its own error and the switch. The profile is the mean number of workers needed in every five
minutes of a season (UTC), over the seasons seen, recent ones weighing more. It only ever raises a floor; what is needed
now is never lowered by what history says (`engine` takes the higher).

Every closed bin is scored against the naive forecast that the need stays what it was a bin ago, which is what a pool
without a forecast has running (the pinball loss of both, with RUSH_WEIGHT for what is missing against what idles):
- saved: of the workers that the need rose by, those that the profile had foreseen, x their seconds x RUSH_WEIGHT;
- wasted: the workers foreseen beyond the need, x their seconds.
Both fade over a day. It is on while it saves more than it wastes, and off, silently scoring on, while it does not: a
flat or a random load never switches it on. Survives gaps (bins that were not seen are neither learnt nor scored),
clocks that jump, and state that can't be read (it begins anew).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

BIN = 300.0
"""Seconds of one bin: rushes are foreseen to five minutes, and a week is 2,016 numbers."""
DAY = 288
WEEK = 2016
LEARNING = 0.3
"""Weight of the newest season: the last three days or weeks are two thirds of the mean."""
RUSH_WEIGHT = 4.0
"""A worker missing in a rush costs as much as four that idle: the pinball loss at its 0.8 quantile."""
FADE = 1 - 1 / DAY
"""For each bin: what was saved and wasted a day ago counts for a third."""
EVIDENCE = DAY
"""Bins that must have been scored, a day, before it may be on."""
MARGIN = 1.25
"""To go on again it must save this much more than it wastes, so that it does not flap."""
LONGEST_LOOK = 60.0
"""Seconds that one look may speak for: after a longer gap the need in between is not known."""
COVERED = 0.5
"""Share of a bin that must have been seen for it to count."""
VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What the spec asks for: seconds to look ahead, and the bins of a season."""

    ahead: float
    bins: int = DAY


@dataclass(frozen=True)
class Bin:
    """The bin that is being seen: its number since the epoch, the need's integral and the seconds that it covers."""

    number: int
    worker_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class History:
    """All that is remembered; as long as the season has bins, for ever. `seasons` counts how often a bin was learnt."""

    profile: tuple[float, ...]
    seasons: tuple[int, ...]
    open: Bin = Bin(-1)
    last: tuple[float, int] | None = None
    """When was looked last (epoch), and what was needed."""
    before: tuple[int, float] | None = None
    """The last closed bin and its mean need."""
    saved: float = 0.0
    wasted: float = 0.0
    scored: int = 0
    on: bool = False


def begin(plan: Plan) -> History:
    """A pool without a past."""
    return History((0.0,) * plan.bins, (0,) * plan.bins)


def observe(history: History, plan: Plan, wall: float, needed: int) -> History:
    """After a look at `wall` (epoch seconds) at which the queue needed so many workers (before bounds and forecast)."""
    number = int(wall // BIN)
    if len(history.profile) != plan.bins:
        history = begin(plan)
    if history.last is None or wall < history.last[0]:
        return replace(history, open=Bin(number), last=(wall, needed))
    at, need = history.last
    if number == history.open.number:
        return replace(history, open=_add(history.open, need, wall - at), last=(wall, needed))
    ends = (history.open.number + 1) * BIN
    history = _close(replace(history, open=_add(history.open, need, ends - at)), plan)
    begins = number * BIN
    fresh = _add(Bin(number), need, wall - begins) if wall - at <= LONGEST_LOOK else Bin(number)
    return replace(history, open=fresh, last=(wall, needed))


def floor(history: History, plan: Plan, wall: float) -> int | None:
    """Workers that will be needed within `ahead`, to the nearest; None while it is off."""
    if not history.on or len(history.profile) != plan.bins:
        return None
    first = int(wall // BIN)
    reach = min(plan.bins, 1 + math.ceil(plan.ahead / BIN))
    return math.floor(max(history.profile[(first + step) % plan.bins] for step in range(reach)) + 0.5)


def describe(history: History, plan: Plan) -> str:
    """How it stands, for `explain`."""
    hours = f"saved {_hours(history.saved)} and wasted {_hours(history.wasted)} worker-hours over the last day"
    if history.on:
        return f"the forecast is on: it {hours}"
    if history.scored < EVIDENCE:
        learnt = sum(1 for seen in history.seasons if seen) / plan.bins
        judged = f"has judged {history.scored} of {EVIDENCE} bins"
        return f"the forecast learns: it knows {learnt:.0%} of its season and {judged}"
    return f"the forecast is off: it would have {hours}"


def to_json(history: History) -> dict[str, Any]:
    """Plain data, from which `from_json` makes the very same history."""
    return {
        "version": VERSION,
        "profile": list(history.profile),
        "seasons": list(history.seasons),
        "open": [history.open.number, history.open.worker_seconds, history.open.seconds],
        "last": list(history.last) if history.last else None,
        "before": list(history.before) if history.before else None,
        "score": [history.saved, history.wasted, history.scored, history.on],
    }


def from_json(data: Any, plan: Plan) -> History:
    """What was kept; a new history when it is of another version or season, or can't be read."""
    try:
        if data["version"] != VERSION or not len(data["profile"]) == len(data["seasons"]) == plan.bins:
            return begin(plan)
        saved, wasted, scored, on = data["score"]
        number, worker_seconds, seconds = data["open"]
        return History(
            tuple(float(one) for one in data["profile"]),
            tuple(int(one) for one in data["seasons"]),
            Bin(int(number), float(worker_seconds), float(seconds)),
            (float(data["last"][0]), int(data["last"][1])) if data["last"] else None,
            (int(data["before"][0]), float(data["before"][1])) if data["before"] else None,
            float(saved),
            float(wasted),
            int(scored),
            bool(on),
        )
    except (KeyError, TypeError, ValueError, IndexError):  # somebody else's data, or half of it
        return begin(plan)


def _add(one: Bin, need: int, seconds: float) -> Bin:
    seconds = min(max(0.0, seconds), LONGEST_LOOK)
    return Bin(one.number, one.worker_seconds + need * seconds, one.seconds + seconds)


def _close(history: History, plan: Plan) -> History:
    """Score the bin against what was foreseen for it, then learn it."""
    seen = history.open
    if seen.seconds < COVERED * BIN:
        return replace(history, before=None)
    place, need = seen.number % plan.bins, seen.worker_seconds / seen.seconds
    history = _judge(history, place, need)
    weight = max(LEARNING, 1 / (history.seasons[place] + 1))
    # Rounded to a thousandth of a worker: it says no less, and a week's state is a third smaller.
    learnt = round(history.profile[place] + weight * (need - history.profile[place]), 3)
    return replace(
        history,
        profile=(*history.profile[:place], learnt, *history.profile[place + 1 :]),
        seasons=(*history.seasons[:place], history.seasons[place] + 1, *history.seasons[place + 1 :]),
        before=(seen.number, need),
    )


def _judge(history: History, place: int, need: float) -> History:
    known = history.before is not None and history.before[0] == history.open.number - 1
    if not known or not history.seasons[place]:
        return history
    assert history.before is not None
    # What it would have as a floor is whole workers: a fraction of one neither saves nor wastes anything.
    foreseen = math.floor(history.profile[place] + 0.5)
    ready = max(0.0, min(foreseen, need) - history.before[1])
    saved = history.saved * FADE + ready * BIN * RUSH_WEIGHT
    wasted = history.wasted * FADE + max(0.0, foreseen - need) * BIN
    scored = history.scored + 1
    enough = saved > wasted * (1.0 if history.on else MARGIN)
    return replace(history, saved=saved, wasted=wasted, scored=scored, on=scored >= EVIDENCE and saved > 0 and enough)


def _hours(worker_seconds: float) -> str:
    return f"{worker_seconds / 3600:.1f}"
