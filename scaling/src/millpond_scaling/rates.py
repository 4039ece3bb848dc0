"""Arrivals a second, from counters of what was ever stored: smoothed, and robust to how the counters are read.

Owns the estimate in Memory.rates. The mean is exponential in time, not in looks:
`rate += (1 - e^(-dt/tau)) x (seen - rate)`, so that irregular looks (a wake, a slow tick, a minute without NATS) weigh
what they last. A counter that falls belongs to a queue that was made anew: what it holds has arrived since. The rate
starts at 0 and lags by design: what it has not seen yet stands in the backlog, which the latency target counts as well.
"""

import math

from millpond_scaling.model import Memory, Observation, Policy

Rates = tuple[tuple[str, float, int, float], ...]

SHORTEST_TAU = 30.0
"""Seconds of memory at least. Counters are whole tasks: over less, a few arrivals look like a rush."""
TAU_PER_LATENCY = 3.0
"""A lone burst of B tasks stands in the backlog (B / latency a second) and in the mean (B / tau): with a tau of
3 x latency it is counted at most 1/3 too high."""
LONGEST_TAU = 900.0
FASTEST_SERVICE = 0.001
"""No task is thought to be served faster: 1 ms."""
PLAUSIBLE = 4.0
"""More than the backlog and 4 x what all slots can serve did not come and go: the counter jumped."""


def update(seen: Observation, policy: Policy, memory: Memory, now: float) -> Rates:
    """The rates after this look, one for each class that it shows; as they were when it shows no counter at all."""
    if not seen.classes:
        if seen.arrived is None or seen.arrived < 0:
            return memory.rates
        counters: list[tuple[str, int]] = [("", seen.arrived)]
    else:
        counters = [(one.name, one.arrived) for one in seen.classes if one.arrived >= 0]
    known = {name: (at, arrived, rate) for name, at, arrived, rate in memory.rates}
    tau = SHORTEST_TAU
    if policy.latency is not None:
        tau = min(LONGEST_TAU, max(SHORTEST_TAU, TAU_PER_LATENCY * policy.latency))
    return tuple(
        [(name, *_after(known.get(name), arrived, now, (tau, _most(seen, policy)))) for name, arrived in counters]
    )


def arrivals(rates: Rates, name: str) -> float:
    """Arrivals a second of one class ("" for a queue that is not split); 0 when they are not known."""
    for known, _, _, rate in rates:
        if known == name:
            return rate
    return 0.0


def moved(before: Rates, after: Rates) -> bool:
    """Whether anything arrived between two looks."""
    counts = {name: arrived for name, _, arrived, _ in before}
    return any(name in counts and arrived != counts[name] for name, _, arrived, _ in after)


def _after(
    known: tuple[float, int, float] | None, arrived: int, now: float, limits: tuple[float, tuple[float, float]]
) -> tuple[float, int, float]:
    if known is None:
        return now, arrived, 0.0
    at, before, rate = known
    elapsed = now - at
    if elapsed <= 0:
        return known
    tau, (backlog, throughput) = limits
    come = arrived - before if arrived >= before else arrived
    come_at_most = backlog + throughput * elapsed
    weight = -math.expm1(-elapsed / tau)
    return now, arrived, rate + weight * (min(come, come_at_most) / elapsed - rate)


def _most(seen: Observation, policy: Policy) -> tuple[float, float]:
    """What can have arrived: what is still here, and what the slots can have served (a second)."""
    times = [seen.service_seconds, *(one.service_seconds for one in seen.classes)]
    known = [max(FASTEST_SERVICE, seconds) for seconds in times if seconds is not None]
    slots = max(seen.current or 0, seen.ready or 0, 1) * policy.slots
    backlog = math.inf if seen.lag is None else float(max(0, seen.lag))
    return backlog, PLAUSIBLE * slots / min(known, default=FASTEST_SERVICE)
