"""What the operator costs while something happens: CPU and memory from /proc, the rest from its own /metrics.

Owns the reading, of the processes around it too (who of them spends the machine says what a phase waits for); it
judges nothing. CPU seconds and memory are the process's own and hold on a shared machine too; times on the clock (a
tick, a request) grow with whatever else runs there.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

CLOCK = os.sysconf("SC_CLK_TCK")
TICK = "millpond_tick_seconds"
REQUESTS = "millpond_api_requests_total"


@dataclass(frozen=True)
class Sample:
    """One reading. `rss` in MB, `cpu` in seconds since the process began, `series` as /metrics has them."""

    at: float
    cpu: float
    rss: float
    peak: float
    series: dict[str, float] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)
    """CPU seconds of the processes around it, by name."""


@dataclass(frozen=True)
class Cost:
    """What lies between two readings. Times in seconds, memory in MB, rates a second."""

    seconds: float
    cores: float
    rss: float
    peak: float
    ticks: int
    tick_p50: float
    tick_p99: float
    writes: float
    by_kind: dict[str, float]
    others: dict[str, float] = field(default_factory=dict)
    """Cores of the processes around the operator, by name."""


class Meter:
    """Reads one process, and of those around it (pids by name) their CPU."""

    def __init__(self, pid: int, port: int, around: dict[str, int]) -> None:
        self._pid = pid
        self._around = around
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120.0)

    def read(self) -> Sample:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{self._pid}/status").read_text().splitlines() if ":" in line
        )
        rss, peak = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        series = parse(self._http.get("/metrics").text)
        others = {name: read_cpu(pid) for name, pid in self._around.items()}
        return Sample(time.monotonic(), read_cpu(self._pid), rss, peak, series, others)


def read_cpu(pid: int) -> float:
    """Seconds of CPU of a process since it began, its threads' too; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / CLOCK


def parse(text: str) -> dict[str, float]:
    """The series that are looked at, by their names with labels."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith((TICK, REQUESTS)))
    return {name: float(value) for name, value in lines}


def compare(before: Sample, after: Sample) -> Cost:
    """What happened between the two."""
    seconds = after.at - before.at
    grown = {name: value - before.series.get(name, 0.0) for name, value in after.series.items()}
    writes = {
        _kind(name): value / seconds
        for name, value in grown.items()
        if name.startswith(REQUESTS) and 'verb="GET"' not in name and value
    }
    return Cost(
        seconds=seconds,
        cores=(after.cpu - before.cpu) / seconds,
        rss=after.rss,
        peak=after.peak,
        ticks=int(grown.get(f"{TICK}_count", 0)),
        tick_p50=quantile(grown, 0.5),
        tick_p99=quantile(grown, 0.99),
        writes=sum(writes.values()),
        by_kind=dict(sorted(writes.items(), key=lambda item: -item[1])),
        others={name: (cpu - before.others.get(name, 0.0)) / seconds for name, cpu in after.others.items()},
    )


def quantile(grown: dict[str, float], share: float) -> float:
    """A quantile of the ticks, as Prometheus' histogram_quantile: linear within the bucket that it falls in."""
    prefix = f'{TICK}_bucket{{le="'
    buckets = sorted(
        (float(name.removeprefix(prefix).removesuffix('"}')), count)
        for name, count in grown.items()
        if name.startswith(prefix)
    )
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        return 0.0  # no tick ended in that time
    below, floor = 0.0, 0.0
    for bound, count in buckets:
        if count >= share * total and count > below:
            if bound == float("inf"):
                return floor
            return floor + (bound - floor) * (share * total - below) / (count - below)
        below, floor = count, bound
    return floor


def _kind(series: str) -> str:
    labels = dict(part.split("=", 1) for part in series.partition("{")[2].rstrip("}").split(","))
    return f"{labels['verb']} {labels['resource']}".replace('"', "")
