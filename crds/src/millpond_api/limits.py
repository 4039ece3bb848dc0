"""What limits a pool's tasks: rates, and places of a concurrency key. The words of the wire and the pure rules.

Owns the grammar of a rate (`100/s`), which limits concern a task, and the state that stands in MILLPOND_LIMITS. Every
rule is a function of plain data, and its callers change the state by compare-and-set, so that two of them can never
both be right. It knows no clock and no broker: times are epoch seconds of the server that stores the state.

- A rate is a GCRA (Generic Cell Rate Algorithm: ITU-T I.371, 1996; as a request limiter: B. Leach's
  redis-cell). Its state is the theoretical arrival time (TAT) of the next start, and for how many seconds nobody
  asked although tasks waited: those are made up for, at most `MAKE_UP` seconds of them, a tenth faster than the rate.
- A place is held by a task, not by a worker: whoever runs the task next has its place already. It is held as long as
  the task's message is in the queue, so a place can neither leak nor be given twice.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from millpond_api.subjects import TOKEN
from millpond_api.wire import Spelled, Wire

RATE_PATTERN = r"^[1-9][0-9]{0,8}/([1-9][0-9]{0,4})?(s|m|h)$"
_RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,4})?([smh])")
_UNIT = {"s": 1.0, "m": 60.0, "h": 3600.0}
MAKE_UP = 1.0
"""Seconds of unused starts that are made up for after a stall (of the broker, of all workers, of their machine): 1 s,
so that no minute is more than 1.7 % above its rate. Stalls of 0.4 to 1.4 s were seen where other work took the CPUs."""
PACE = 1.1
"""How much faster than the rate starts follow each other while a stall is made up for: 1 s takes 11 s."""


class Rate(Spelled):
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


class Places(Spelled):
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

Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class RateState(Wire):
    """The last reservation of a rate: with the time at which the server stored it, it says when the next one starts.

    It holds no time of its writer's clock: the only clock is the server's, so workers may disagree about the time.
    """

    tat: Seconds = 0.0
    count: int = Field(default=0, ge=0)
    interval: Seconds = 0.0
    pace: Seconds = 0.0
    """Seconds between two starts while there is something to make up for; 0 where the writer knew no such thing."""
    owed: Seconds = 0.0
    """Seconds to make up for, before this reservation."""
    waited: Seconds = 0.0
    """Seconds for which the oldest of its tasks had waited: nobody is owed for the time in which no task was there."""
    key: str = ""
    """For people: whose rate it is."""


@dataclass(frozen=True, slots=True)
class Due:
    """Where a rate stands between two reservations."""

    tat: float = 0.0
    """0 when nobody has used it for so long that the broker has forgotten it."""
    owed: float = 0.0


def ask(due: Due, rate: Rate, count: int, *, waited: float = 0.0, key: str = "") -> RateState:
    """The reservation of `count` starts on top of `due`."""
    return RateState(
        tat=due.tat,
        count=count,
        interval=rate.interval,
        pace=rate.interval / PACE,
        owed=due.owed,
        waited=waited,
        key=key,
    )


def next_due(state: RateState, stored: float) -> Due:
    """Where the rate stands after a reservation that the server stored at `stored`."""
    owed = _owed(state, stored)
    fast = _fast(state, owed)
    span = fast * state.pace + (state.count - fast) * state.interval
    return Due(max(state.tat, stored) + span, max(0.0, owed - fast * (state.interval - state.pace)))


def start_times(rate: Rate, state: RateState, now: float) -> list[float]:
    """When the starts of a reservation that is made at `now` may take place."""
    base, fast = max(state.tat, now), _fast(state, _owed(state, now))
    steps = (min(n, fast) * state.pace + max(0, n - fast) * state.interval for n in range(state.count))
    return [max(now, base + step - rate.tolerance) for step in steps]


def _owed(state: RateState, now: float) -> float:
    """Seconds to make up for at `now`. A task that came later than the last start ends what was owed before it."""
    missed = now - state.tat
    if missed <= 0:
        return state.owed
    if not state.tat:
        return 0.0
    return min(MAKE_UP, state.owed + missed if missed <= state.waited else state.waited)


def _fast(state: RateState, owed: float) -> int:
    """How many of the starts follow each other at the faster pace: each takes its gain off what is owed."""
    gain = state.interval - state.pace
    return min(state.count, int(owed / gain + 1e-9)) if state.pace and gain > 0 else 0


def room(rate: Rate, tat: float, until: float) -> int:
    """How many starts could be reserved that take place by `until`."""
    lead = until - (tat - rate.tolerance)
    return int(lead / rate.interval + 1e-9) + 1 if lead >= 0 else 0


# ---- places


class Holder(Wire):
    """A task with a place. `message`: its message in the pool's stream, 0 while it is on its way there."""

    task: str = Field(pattern=f"^{TOKEN}$")
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
    """The state with the task in a place (the same state when it is in one); `Full` when there is none for it.

    Who has a place keeps it, also when the limit was lowered meanwhile. It never goes back to an earlier message of the
    task: a worker that was slow with it would take the place along when it acks, while the later one runs.
    """
    mine = next((one for one in state.holders if one.task == holder.task), None)
    if mine is None and len(state.holders) >= limit:
        return Full(state.holders)
    if mine is not None and mine.message >= holder.message:
        return state
    others = tuple(one for one in state.holders if one.task != holder.task)
    return state.model_copy(update={"holders": (*others, holder)})


def leave_place(state: PlaceState, holder: Holder) -> PlaceState:
    """The state without the place of this message of the task, or the one that it has on the task's way to the queue.

    A later message keeps its place: an earlier one that is dealt with again ends nothing.
    """
    return give_place(state, frozenset({holder, Holder(task=holder.task)}))


def give_place(state: PlaceState, gone: frozenset[Holder]) -> PlaceState:
    """The state without these holders."""
    left = tuple(one for one in state.holders if one not in gone)
    return state if len(left) == len(state.holders) else state.model_copy(update={"holders": left})


def say_full(key: str, limit: int, holders: tuple[Holder, ...]) -> str:
    """Why a task waits, for its condition."""
    names = ", ".join(holder.task for holder in holders[:3]) + (" and others" if len(holders) > 3 else "")
    places = "1 of 1 places" if limit == 1 else f"one of {limit} places"
    return f"waits for {places} of key {key}, held by task{'s' if len(holders) > 1 else ''} {names}"
