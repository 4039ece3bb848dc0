"""Figures of a run of the queue benchmark, and what they come to. Pure.

A round's rate counts from the start of the first task until the last result is stored, so starting up does not count.
CPU is that of the worker's processes and of the server, user and system, over the same time.
"""

from statistics import median

from pydantic import BaseModel

from bench.figures import percentile
from bench.machine import Machine


class Round(BaseModel):
    """One contender, once."""

    contender: str
    tasks: int
    seconds: float
    worker_cpu: float
    """Seconds of CPU of the worker's processes."""
    server_cpu: float

    @property
    def rate(self) -> float:
        return self.tasks / self.seconds


class Latency(BaseModel):
    """Submit → start at a steady `rate` (tasks a second, half of what the contender can do), in seconds."""

    contender: str
    rate: float
    tasks: int
    p50: float
    p99: float
    most: float


class Entry(BaseModel):
    """A contender's line: how it is set up and what it promises."""

    name: str
    version: str
    server: str
    stored: str
    results: str
    promise: str
    slots: int
    missing: str = ""
    """Why it was not measured."""


class QueueResult(BaseModel):
    """A run."""

    machine: Machine
    entries: list[Entry]
    rounds: list[Round]
    latencies: list[Latency]
    troubles: list[str] = []
    """Rounds that came to no figure, with the reason."""


MAIN, SERVER = "main thread", "nats-server"


class QueueProfile(BaseModel):
    """Where a no-op task's CPU goes: microseconds a task by thread (and of the server), shares of the main thread."""

    machine: Machine
    tasks: int
    threads: dict[str, float]
    kinds: list[tuple[str, float]]


def rates(result: QueueResult) -> dict[str, float]:
    """The middle of each contender's rounds, tasks a second."""
    names = dict.fromkeys(one.contender for one in result.rounds)
    return {name: median(one.rate for one in result.rounds if one.contender == name) for name in names}


def cpu_per_task(result: QueueResult, name: str) -> tuple[float, float]:
    """Microseconds of the worker and of the server for a task, the middle of the rounds."""
    found = [one for one in result.rounds if one.contender == name]
    return (
        median(one.worker_cpu / one.tasks for one in found) * 1e6,
        median(one.server_cpu / one.tasks for one in found) * 1e6,
    )


def make_latency(contender: str, rate: float, waits: list[float]) -> Latency:
    """The spread of the waits; the first task, which started the worker, is left out."""
    later = waits[1:]
    return Latency(
        contender=contender,
        rate=rate,
        tasks=len(later),
        p50=percentile(later, 0.5),
        p99=percentile(later, 0.99),
        most=max(later),
    )
