"""Floors and ceilings by the clock: active when the last `start` is more recent than the last `end`.

Owns the reading of cron moments in their time zones. The wall clock comes in; no clock is read. Times are those of
Debian's cron (cronsim): a moment in the hour that summer time skips comes right after the jump, one in the hour that
comes twice is meant the first time, and expressions with `*` in minute or hour follow real time. What can't be read is
an error that is named, and counts neither as a floor nor as a ceiling.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from millpond_api.v1alpha1 import WorkerPoolSpec

from millpond_scaling.model import Schedule

FIELDS = 5
SHIFT = timedelta(hours=3)
"""More than any clock is put forward or back: moments are looked for from this far ahead, by the wall clock."""
REFERENCE = 28_401_120
"""Minutes since the epoch of 2024-01-01T00:00Z: what is readable then is readable."""


@dataclass(frozen=True)
class Unreadable:
    """Why a schedule has no say: one clause."""

    why: str


def is_active(schedule: Schedule, wall: float) -> bool | Unreadable:
    """Whether it holds at `wall` (epoch seconds)."""
    minute = int(wall // 60)
    start = last_moment(schedule.start, schedule.time_zone, minute)
    if isinstance(start, Unreadable):
        return Unreadable(f"start {start.why}")
    end = last_moment(schedule.end, schedule.time_zone, minute)
    if isinstance(end, Unreadable):
        return Unreadable(f"end {end.why}")
    return start > end


@lru_cache(maxsize=16384)
def last_moment(expression: str, zone: str, minute: int) -> int | Unreadable:
    """The last moment of a cron expression up to a minute, both in minutes since the epoch.

    Kept for (expression, zone, minute): looked up many times a minute, reckoned once (51 us).
    """
    if len(expression.split()) != FIELDS:
        return Unreadable(f"{expression!r} does not have five fields")
    try:
        tz = UTC if zone == "UTC" else ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # unknown, not a name, or a folder of the data base ("Europe")
        return Unreadable(f"has an unknown time zone {zone!r}")
    try:
        moment = datetime.fromtimestamp(minute * 60, tz)
        # An expression that follows real time is looked for from now. One by the wall clock may have its moment in the
        # first of two equal hours while it is the second, which looks later: it is looked for from further ahead.
        times = CronSim(expression, moment + timedelta(seconds=1), reverse=True)
        if times.fixup_tz is not None:
            times = CronSim(expression, moment + SHIFT, reverse=True)
        for time in times:
            if (at := int(time.timestamp() // 60)) <= minute:
                return at
    except CronSimError as error:
        return Unreadable(f"{expression!r} can't be read ({str(error).lower()})")
    except (OverflowError, ValueError, OSError):  # the wall clock is outside of what a date can be
        return Unreadable(f"{expression!r} has no moment near the present time")
    return Unreadable(f"{expression!r} never happens")


def check_schedules(spec: WorkerPoolSpec) -> list[str]:
    """What is wrong with a pool's schedules, a sentence each, for its condition; empty when they are right."""
    found: list[str] = []
    names: set[str] = set()
    for one in spec.scaling.schedules:
        schedule = Schedule(one.name, one.start, one.end, one.time_zone, one.min_workers, one.max_workers)
        readable = is_active(schedule, REFERENCE * 60.0)
        if isinstance(readable, Unreadable):
            found.append(f"schedule {one.name} has no effect: {readable.why}")
        elif one.start.split() == one.end.split():
            found.append(f"schedule {one.name} has no effect: it ends when it starts")
        if one.min_workers is not None and one.max_workers is not None and one.min_workers > one.max_workers:
            found.append(f"schedule {one.name} has minWorkers above maxWorkers; maxWorkers wins")
        elif one.min_workers is not None and one.min_workers > spec.scaling.max_workers:
            found.append(
                f"schedule {one.name} asks for {one.min_workers} workers, but spec.scaling.maxWorkers is "
                f"{spec.scaling.max_workers}"
            )
        if one.name in names:
            found.append(f"two schedules are named {one.name}")
        names.add(one.name)
    return found
