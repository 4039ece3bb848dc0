"""Which limits a task meets at a worker, and what it is told there: pure.

Owns the names of limits, the order in which they are asked, the worth of a pass, and the events of a task that is put
aside. It asks nobody: `worker.limiter` does, and `millpond_api.limits` has the arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from millpond_api.envelope import Envelope
from millpond_api.events import Aside, TaskEvent
from millpond_api.lifecycle import TaskState, TaskView
from millpond_api.limits import Full, KeyPolicy, Places, PoolLimits, Rate, say_full

from millpond.outcomes import Origin, make_event
from millpond.registry import Handler

POOL = "pool"
LATE = "late:"
PASS_GOOD_FOR = 2.0
"""Seconds after its time in which a pass is good: a due task is pulled within milliseconds when a slot is free. Those
that come later (the pool was away) are spaced anew among themselves, or all of them would start at once."""


@dataclass(frozen=True, slots=True)
class RateDemand:
    """A rate that a task has to wait for. Tasks with the same name share it."""

    name: str
    rate: Rate


@dataclass(frozen=True, slots=True)
class PlaceDemand:
    """A place that a task needs. `name` is whose places they are, `key` what people call it."""

    name: str
    key: str
    places: Places

    @property
    def limit(self) -> int:
        return self.places.limit

    @property
    def policy(self) -> KeyPolicy:
        return self.places.policy


def own_rates(envelope: Envelope, handler: Handler, pool: PoolLimits) -> list[RateDemand]:
    """The rates of the task's key and of its handler: what waits for them makes way for other tasks."""
    found = []
    if pool.per_key and envelope.rate_key:
        found.append(RateDemand(f"key:{envelope.rate_key}", pool.per_key))
    if handler.rate:
        found.append(RateDemand(f"handler:{handler.name}", handler.rate))
    return found


def place_demand(envelope: Envelope, handler: Handler, pool: PoolLimits) -> PlaceDemand | None:
    """The places it needs one of: the handler's own limit comes before the pool's."""
    if handler.concurrency:
        name = f"handler:{handler.name}:{envelope.key}"
        return PlaceDemand(name, envelope.key or handler.name, handler.concurrency)
    if pool.places and envelope.key:
        return PlaceDemand(f"key:{envelope.key}", envelope.key, pool.places)
    return None


def still_demanded(demand: RateDemand, passes: Mapping[str, float], now: float) -> RateDemand | None:
    """What is left to wait for with these passes; None when one of them is good.

    A pass of the late is good for ever: nobody is sent back more than twice.
    """
    if LATE + demand.name in passes:
        return None
    given = passes.get(demand.name)
    if given is None:
        return demand
    return None if now <= given + PASS_GOOD_FOR else RateDemand(LATE + demand.name, demand.rate)


def make_put_off(origin: Origin, demand: RateDemand, start: float, message: int, now: datetime) -> TaskEvent:
    """It comes back at `start` (epoch seconds) with a pass. The attempt is not used."""
    passes = {**origin.envelope.passes, demand.name: start}
    return make_event(origin, TaskState.SCHEDULED, now).model_copy(
        update={
            "reason": "RateLimited",
            "message": f"waits for its turn: {demand.rate} of {demand.name.removeprefix(LATE).replace(':', ' ', 1)}",
            "next_at": datetime.fromtimestamp(start, UTC),
            "aside": Aside(message=message, passes=passes),
        }
    )


def make_parked(origin: Origin, demand: PlaceDemand, full: Full, message: int, now: datetime) -> TaskEvent:
    """It waits for a place. The attempt is not used."""
    return make_event(origin, TaskState.QUEUED, now).model_copy(
        update={
            "reason": "ConcurrencyLimit",
            "message": say_full(demand.key, demand.limit, full.holders)[:512],
            "aside": Aside(message=message, key=demand.name),
        }
    )


def make_outdone(origin: Origin, demand: PlaceDemand, why: str, now: datetime) -> TaskEvent:
    """It ends because another task of its key runs (or is newer), as the key's policy wants it."""
    return make_event(origin, TaskState.CANCELLED, now).model_copy(
        update={"reason": "ConcurrencyLimit", "message": f"{why} (key {demand.key}, policy {demand.policy})"[:512]}
    )


def find_aside(view: TaskView, message: int) -> TaskEvent | None:
    """The event that put aside this very message, if there is one: nothing is to be run by it any more.

    While it is the last, its consequences are to be completed. What came after it was written for another message of
    the task, which goes on by itself (`tests/support/limits_model.py`): a copy that claimed now would run beside it.
    """
    found = [event for event in view.events if event.aside is not None and event.aside.message == message]
    return found[-1] if found else None
