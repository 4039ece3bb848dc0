"""What limits a pool's tasks: rates, and places of a concurrency key. The words of the wire and the pure rules.

Owns the grammar of a rate (`100/s`), which limits concern a task, and the state that stands in MILLPOND_LIMITS. Every
rule is a function of plain data, and its callers change the state by compare-and-set, so that two of them can never
both be right. It knows no clock and no broker: times are epoch seconds of the server that stores the state.

- A rate is a GCRA (Generic Cell Rate Algorithm: ITU-T I.371, 1996; as a request limiter: B. Leach's
  redis-cell). Its state is one number, the theoretical arrival time (TAT) of the next start.
- A place is held by a task, not by a worker: whoever runs the task next has its place already. It is held as long as
  the task's message is in the queue, so a place can neither leak nor be given twice.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from millpond_api.wire import Wire

RATE_PATTERN = r"^[1-9][0-9]{0,8}/([1-9][0-9]{0,4})?(s|m|h)$"
_RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,4})?([smh])")
_UNIT = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Rate(Wire):
    """At most `count` starts within `seconds`, evenly spaced; `burst` of them may come at once after a rest."""

    count: int = Field(ge=1)
    seconds: float = Field(default=1.0, gt=0)
    burst: int = Field(default=1, ge=1)

    @property
    def interval(self) -> float:
        """Seconds between two starts."""
        return self.seconds / self.count

    @property
    def tolerance(self) -> float:
        """Seconds that a start may come before its theoretical time (GCRA's tau)."""
        return (self.burst - 1) * self.interval

    def __str__(self) -> str:
        unit = {1.0: "s", 60.0: "m", 3600.0: "h"}.get(self.seconds)
        return f"{self.count}/{unit or f'{self.seconds:g}s'}"


def parse_rate(text: str, burst: int = 1) -> Rate:
    """The rate in `text`; ValueError with the accepted form when it is none."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a rate: write a number, a slash and a time, such as 100/s, 5/m or 1/10s")
    count, times, unit = match.groups()
    return Rate(count=int(count), seconds=int(times or 1) * _UNIT[unit], burst=burst)


class KeyPolicy(StrEnum):
    """What becomes of a task whose concurrency key has no free place."""

    QUEUE = "queue"
    """It waits for one, first come first served."""
    CANCEL_NEWEST = "cancel-newest"
    """It is cancelled."""
    CANCEL_RUNNING = "cancel-running"
    """Those before it are cancelled, running or waiting: the newest runs."""


class Places(Wire):
    """At most `limit` tasks of a concurrency key at once."""

    limit: int = Field(default=1, ge=1)
    policy: KeyPolicy = KeyPolicy.QUEUE


class PoolLimits(Wire):
    """The limits of a whole pool, as its workers are told them."""

    rate: Rate | None = None
    per_key: Rate | None = None
    """For each rate key by itself."""
    places: Places | None = None
    """For each concurrency key by itself."""


# ---- rates


class RateState(Wire):
    """The last reservation of a rate: with the time at which the server stored it, it says when the next one starts.

    It holds no time of its writer's clock: the only clock is the server's, so workers may disagree about the time.
    """

    tat: float = 0.0
    count: int = 0
    interval: float = 0.0
    key: str = ""
    """For people: whose rate it is."""


def next_tat(state: RateState, stored: float) -> float:
    """The theoretical arrival time after a reservation that the server stored at `stored`."""
    return max(state.tat, stored) + state.count * state.interval


def start_times(rate: Rate, tat: float, now: float, count: int) -> list[float]:
    """When `count` starts that are reserved at `now` on top of `tat` may take place."""
    base = max(tat, now)
    return [max(now, base + number * rate.interval - rate.tolerance) for number in range(count)]


def room(rate: Rate, tat: float, until: float) -> int:
    """How many starts could be reserved that take place by `until`."""
    lead = until - (tat - rate.tolerance)
    return int(lead / rate.interval + 1e-9) + 1 if lead >= 0 else 0


# ---- places


class Holder(Wire):
    """A task with a place. `message`: its message in the pool's stream, 0 while it is on its way there."""

    task: str
    message: int = 0


class PlaceState(Wire):
    """Who has the places of a concurrency key."""

    key: str = ""
    holders: tuple[Holder, ...] = ()

    def has(self, task: str) -> bool:
        return any(holder.task == task for holder in self.holders)


@dataclass(frozen=True, slots=True)
class Full:
    """No place is free; those who have them."""

    holders: tuple[Holder, ...]


def take_place(state: PlaceState, holder: Holder, limit: int) -> PlaceState | Full:
    """The state with the task in a place (the same state when it is in one); `Full` when there is none for it."""
    others = tuple(one for one in state.holders if one.task != holder.task)
    # Who has a place keeps it, also when the limit was lowered meanwhile.
    if len(others) >= limit and len(others) == len(state.holders):
        return Full(state.holders)
    if len(others) < len(state.holders) and (holder in state.holders or not holder.message):
        return state
    return state.model_copy(update={"holders": (*others, holder)})


def give_place(state: PlaceState, tasks: frozenset[str]) -> PlaceState:
    """The state without these tasks."""
    left = tuple(one for one in state.holders if one.task not in tasks)
    return state if len(left) == len(state.holders) else state.model_copy(update={"holders": left})


def say_full(key: str, limit: int, holders: tuple[Holder, ...]) -> str:
    """Why a task waits, for its condition."""
    names = ", ".join(holder.task for holder in holders[:3]) + (" and others" if len(holders) > 3 else "")
    places = "1 of 1 places" if limit == 1 else f"one of {limit} places"
    return f"waits for {places} of key {key}, held by task{'s' if len(holders) > 1 else ''} {names}"
