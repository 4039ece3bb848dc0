"""Arrivals: read from CSV, or generated. Pure and seeded.

Owns the five shapes that policies are compared on and the reading of `time,count[,service]`. A trace is the same for
every policy: arrivals and service times are drawn before anything is simulated.
"""

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from millpond_scaling.simulate.chance import Chance
from millpond_scaling.simulate.model import Arrival


class TraceError(ValueError):
    """A trace that cannot be read: the sentence names the line."""


@dataclass(frozen=True)
class Service:
    """Service times: log-normal. sigma 0 is constant; 1.0 has a long tail (p99 is ten times the median)."""

    median: float = 3.0
    sigma: float = 0.5


@dataclass(frozen=True)
class Shape:
    """A generator with its sentence. Rates are tasks a second."""

    about: str
    service: Service
    make: Callable[[Chance], Iterable[float]]


def poisson(chance: Chance, rate: Callable[[float], float], peak: float, duration: float) -> Iterable[float]:
    """Arrival times of a Poisson process whose rate changes, by thinning (Lewis and Shedler 1979)."""
    at = 0.0
    while (at := at + chance.exponential(1 / peak)) < duration:
        if chance.uniform() * peak <= rate(at):
            yield at


def _steady(chance: Chance) -> Iterable[float]:
    return poisson(chance, lambda _: 2.0, 2.0, 3600)


def _bursty(chance: Chance) -> Iterable[float]:
    """Bursts of about 30 s at 6 a second, about 90 s of silence between them (an on-off process)."""
    at, ends = 0.0, []
    while at < 3600:
        begin = at + chance.exponential(90)
        at = begin + chance.exponential(30)
        ends.append((begin, min(at, 3600.0)))
    for begin, end in ends:
        for offset in poisson(chance, lambda _: 6.0, 6.0, max(0.0, end - begin)):
            yield begin + offset


def _diurnal(chance: Chance) -> Iterable[float]:
    """A day in two hours: from silence at night to 4 a second at noon."""
    day = 7200.0
    return poisson(chance, lambda at: 2 - 2 * math.cos(2 * math.pi * at / day), 4.0, day)


def _spike(chance: Chance) -> Iterable[float]:
    """Half a task a second for half an hour; at 10 minutes, 40 a second for 20 s."""
    return poisson(chance, lambda at: 40.0 if 600 <= at < 620 else 0.5, 40.0, 1800)


def _herd(chance: Chance) -> Iterable[float]:
    """300 tasks within a second, every 20 minutes, and nothing else: what a cron job or a reconnect does."""
    for begin in (60.0, 1260.0, 2460.0):
        yield from sorted(begin + chance.uniform(0, 1) for _ in range(300))


SHAPES = {
    "steady": Shape("2 tasks a second for an hour", Service(3.0, 0.5), _steady),
    "bursty": Shape("bursts of 6 a second for 30 s, 90 s apart, long-tailed tasks", Service(5.0, 1.0), _bursty),
    "diurnal": Shape("a day in two hours: 0 to 4 tasks a second and back", Service(3.0, 0.5), _diurnal),
    "spike": Shape("0.5 a second, once 40 a second for 20 s", Service(3.0, 0.5), _spike),
    "herd": Shape("300 tasks at once, every 20 minutes, from zero", Service(4.0, 0.5), _herd),
}


def generate(name: str, seed: int, service: Service | None = None) -> list[Arrival]:
    """A named trace; `service` overrides the shape's own service times."""
    shape = SHAPES[name]
    times, work = Chance(seed, f"{name}/arrivals"), Chance(seed, f"{name}/service")
    kind = service or shape.service
    return [Arrival(at, work.lognormal(kind.median, kind.sigma)) for at in shape.make(times)]


def read_csv(lines: Iterable[str], seed: int, service: Service) -> list[Arrival]:
    """Arrivals from `time,count[,service]` (seconds, tasks, seconds each); a heading is skipped.

    Tasks of one line are spread evenly up to the next line's time, the last line's within a second.
    """
    rows = [_row(number, row) for number, row in enumerate(csv.reader(lines), 1) if row and not _heading(number, row)]
    if not rows:
        raise TraceError("the trace holds no line of time,count[,service]")
    chance, arrivals = Chance(seed, "csv/service"), []
    for (at, count, given), (following, _, _) in zip(rows, [*rows[1:], (rows[-1][0] + 1.0, 0, None)], strict=True):
        if following < at:
            raise TraceError(f"the time {following:g} comes after {at:g}: sort the lines by time")
        for index in range(count):
            work = given if given is not None else chance.lognormal(service.median, service.sigma)
            arrivals.append(Arrival(at - rows[0][0] + (following - at) * index / count, work))
    return arrivals


def _heading(number: int, row: list[str]) -> bool:
    try:
        float(row[0])
    except ValueError:
        return number == 1
    return False


def _row(number: int, row: list[str]) -> tuple[float, int, float | None]:
    try:
        service = float(row[2]) if len(row) > 2 and row[2].strip() else None
        made = float(row[0]), int(row[1]), service
    except (ValueError, IndexError):
        raise TraceError(f"line {number} is not time,count[,service]: {','.join(row)!r}") from None
    if made[1] < 0 or (service is not None and service <= 0) or not math.isfinite(made[0]):
        raise TraceError(f"line {number}: count must not be negative, service must be greater than 0")
    return made
