"""What the queue needs: workers for each target of the spec; the highest wins, as with several metrics of an HPA.

Owns the three formulas; bounds, speed and everything else come later. A need is unrounded, so that tolerance can
compare it with what runs; it never asks for less than what is in flight, one slot for each task.

- lagPerSlot: in flight + waiting / lagPerSlot slots.
- latency L, for arrivals of rate r and service time S (Little's law: r x S slots are busy on average):
  S <= L: (r + waiting / L) x S slots, since a slot starts L / S tasks within L;
  S > L: a slot that is free starts one task within L, one that is busy L / S of one, so that what waits and what will
  arrive within L need `in flight x (1 - L / S) + waiting + r x L` slots. Both agree at S = L. Example: 10 waiting
  tasks of a minute that should start within 10 s need 10 slots, not (10 / 10) x 60.
  With classes the sum over them, each with its own r, S and waiting. Without a service time lagPerSlot 1.
- utilization u: (in flight + waiting) / u slots.
"""

import math
from dataclasses import dataclass

from millpond_api.durations import format_duration

from millpond_scaling.model import ClassLoad, Observation, Policy
from millpond_scaling.rates import FASTEST_SERVICE, Rates, arrivals

ROUNDING = 1e-9
"""Sums of floats may end this far above a whole number; that is no further worker."""

FEED_SPARE = 1.25
"""Slots beyond the busy ones' mean, so that the cap never costs starts that the rate allows."""


@dataclass(frozen=True)
class Load:
    """Tasks waiting and in flight, and how fast more come. `in_flight` is 0 where it is not known."""

    waiting: int
    in_flight: int
    seen: Observation
    rates: Rates


@dataclass(frozen=True)
class Need:
    """`raw` workers, unrounded; which target says so; and what to add to the sentence."""

    raw: float
    rule: str
    aside: str = ""

    @property
    def workers(self) -> int:
        return round_up(self.raw)


def round_up(raw: float) -> int:
    """Whole workers, forgiving what adding floats leaves behind."""
    return math.ceil(raw - ROUNDING)


def highest_need(load: Load, policy: Policy) -> Need:
    """The target that needs most; lagPerSlot 1 when the spec has none. The first of equals."""
    needs: list[Need] = []
    if policy.lag_per_slot is not None:
        needs.append(_by_lag(load, policy, policy.lag_per_slot))
    if policy.latency is not None:
        needs.append(_by_latency(load, policy, policy.latency))
    if policy.utilization is not None:
        needs.append(Need((load.in_flight + load.waiting) / policy.utilization / policy.slots, "utilization"))
    return max(needs, key=lambda need: need.raw) if needs else _by_lag(load, policy, 1.0)


def fed_by_rate(seen: Observation, policy: Policy) -> int | None:
    """The workers that `policy.rate` can keep busy: more would only wait for a start. None: no rate, no service time.

    Little's law: rate x service time slots are busy on average; FEED_SPARE on top for tasks that come in a bunch.
    """
    seconds = _time(seen.service_seconds)
    if policy.rate is None or seconds is None:
        return None
    return max(1, round_up(policy.rate * _served(seconds) * FEED_SPARE / policy.slots))


def _by_lag(load: Load, policy: Policy, lag_per_slot: float) -> Need:
    return Need((load.in_flight + load.waiting / lag_per_slot) / policy.slots, "lagPerSlot")


def _by_latency(load: Load, policy: Policy, latency: float) -> Need:
    classes = _classes(load)
    known = [(one, _served(one.service_seconds)) for one in classes if one.service_seconds is not None]
    unknown = sum(one.waiting for one in classes if one.service_seconds is None)
    short = sum(
        (arrivals(load.rates, one.name) + one.waiting / latency) * seconds
        for one, seconds in known
        if seconds <= latency
    )
    long = [(one, seconds) for one, seconds in known if seconds > latency]
    fresh = sum(one.waiting + arrivals(load.rates, one.name) * latency for one, _ in long)
    slots = max(float(load.in_flight), short + fresh + _staying(load, known, latency)) + unknown
    if load.waiting:
        slots = max(slots, 1.0)
    aside = f" to start within {format_duration(latency)}"
    if not known:
        aside = ", a slot for each as long as no service time is known"
    return Need(slots / policy.slots, "latency", aside)


def _staying(load: Load, known: list[tuple[ClassLoad, float]], latency: float) -> float:
    """Slots that the tasks in flight still hold when the latency has passed: of those of a long class 1 - L / S.

    Which class the tasks in flight belong to is not seen: in the mean as r x S of each (Little's law), and where
    nothing arrives any more, equally.
    """
    shares = [arrivals(load.rates, one.name) * seconds for one, seconds in known]
    total = sum(shares)
    if not total:
        shares, total = [1.0] * len(known), float(len(known))
    return sum(
        load.in_flight * share / total * (1 - latency / seconds)
        for (_, seconds), share in zip(known, shares, strict=True)
        if seconds > latency
    )


def _classes(load: Load) -> list[ClassLoad]:
    """The classes with their service times; what waits in none of them counts as a class of its own."""
    seen = load.seen
    if not seen.classes:
        return [ClassLoad("", load.waiting, 0, _time(seen.service_seconds))]
    classes = [
        ClassLoad(one.name, max(0, one.waiting), one.arrived, _time(one.service_seconds) or _time(seen.service_seconds))
        for one in seen.classes
    ]
    rest = load.waiting - sum(one.waiting for one in classes)
    if rest > 0:
        # "\0" is no class's name, so no arrivals are counted twice.
        classes.append(ClassLoad("\0", rest, 0, _time(seen.service_seconds)))
    return classes


def _time(seconds: float | None) -> float | None:
    """A service time that can be one."""
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None


def _served(seconds: float | None) -> float:
    return max(FASTEST_SERVICE, seconds or 0.0)
