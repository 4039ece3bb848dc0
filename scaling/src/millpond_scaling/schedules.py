"""Floors and ceilings by the clock: active when the last `start` is more recent than the last `end`.

Owns the reading of cron moments in their time zones. The wall clock comes in; no clock is read. Times are those of
Debian's cron (cronsim): a moment in the hour that summer time skips comes right after the jump, one in the hour that
comes twice is meant the first time, and expressions with `*` in minute or hour follow real time. What can't be read is
an error that is named, and counts neither as a floor nor as a ceiling.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from millpond_api.v1alpha1 import WorkerPoolSpec

from millpond_scaling.model import Schedule

FIELDS = 5
SHIFT = timedelta(hours=3)
"""More than any clock is put forward or back: moments are looked for from this far ahead, by the wall clock."""
STRIDE = 7 * 24 * 60
"""Minutes: no zone changes its clock twice in a week."""
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
        return by_real_time(expression, tz, minute) if has_star(expression) else by_wall_clock(expression, tz, minute)
    except CronSimError as error:
        return Unreadable(f"{expression!r} can't be read ({str(error).lower()})")
    except StopIteration:
        return Unreadable(f"{expression!r} never happens")
    except (OverflowError, ValueError, OSError):  # the wall clock is outside of what a date can be
        return Unreadable(f"{expression!r} has no moment near the present time")


def has_star(expression: str) -> bool:
    """Whether minute or hour is `*` or a step of it: such an expression follows real time (Debian's cron)."""
    minute, hour, *_ = expression.split()
    return minute.startswith("*") or hour.startswith("*")


def by_wall_clock(expression: str, tz: tzinfo, minute: int) -> int:
    """The last moment of an expression that means the wall clock's hours: once a day, whatever the clock does.

    Its moment may be in the first of two equal hours while it is the second, which looks later: it is looked for from
    further ahead.
    """
    times = CronSim(expression, datetime.fromtimestamp(minute * 60, tz) + SHIFT, reverse=True)
    while (at := int(next(times).timestamp() // 60)) > minute:
        pass
    return at


def by_real_time(expression: str, tz: tzinfo, minute: int) -> int:
    """The last moment of an expression that follows real time: every minute whose wall clock matches, both times.

    cronsim steps by whole hours over a change of the clock, which Lord Howe Island (half an hour) breaks; therefore
    it reckons in one offset at a time, and what lies before the change is looked for in the offset from before.
    """
    while True:
        offset = offset_at(tz, minute)
        wall = datetime.fromtimestamp((minute + offset) * 60 + 1, UTC)
        at = int(next(CronSim(expression, wall, reverse=True)).timestamp() // 60) - offset
        change = last_change(tz, at, minute)
        if change is None:
            return at
        minute = change - 1


def last_change(tz: tzinfo, since: int, minute: int) -> int | None:
    """The first minute of the offset that holds at `minute`, if that is later than `since`."""
    offset = offset_at(tz, minute)
    same = minute
    while same > since:
        before = max(since, same - STRIDE)
        if offset_at(tz, before) != offset:
            while same - before > 1:
                middle = (same + before) // 2
                before, same = (before, middle) if offset_at(tz, middle) == offset else (middle, same)
            return same
        same = before
    return None


def offset_at(tz: tzinfo, minute: int) -> int:
    """Minutes that the wall clock is ahead of UTC."""
    offset = datetime.fromtimestamp(minute * 60, tz).utcoffset()
    return 0 if offset is None else int(offset.total_seconds() // 60)


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
