"""One round of one contender: a new server, the tasks submitted, one worker process, until the last result is stored.

Owns the contender's processes and what they tell. It survives one that hangs or dies: the round raises with the end of
its log. Nothing of a round is left over for the next one.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.queue.contenders import MILLPOND, Contender
from bench.queue.environments import PEERS, find_python
from bench.queue.grounds import Server, running
from bench.queue.model import Latency, Round, make_latency
from tests.support.eventually import eventually_sync

LIMIT = 240.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Site:
    """Where one round takes place."""

    contender: Contender
    server: Server
    directory: Path
    tasks: int

    @property
    def meter(self) -> Path:
        return self.directory / "meter.json"

    @property
    def first(self) -> Path:
        return self.directory / "meter.json.first"

    def environment(self, rate: float = 0.0) -> dict[str, str]:
        own = {
            "BENCH_URL": self.server.url,
            "BENCH_TASKS": str(self.tasks),
            "BENCH_SLOTS": str(self.contender.slots),
            "BENCH_OUT": str(self.meter),
            "BENCH_RATE": str(rate),
            "BENCH_VARIANT": self.contender.variant,
        }
        if self.contender is MILLPOND:
            own |= {
                "MILLPOND_NATS_URL": self.server.url,
                "MILLPOND_NAMESPACE": "bench",
                "MILLPOND_POOL": "bench",
                "MILLPOND_APP": "ours:app",
                "MILLPOND_WORKER": "bench",
                "MILLPOND_CONCURRENCY": str(self.contender.slots),
                "MILLPOND_HTTP_PORT": "0",
            }
        return {**os.environ, **own}

    def command(self, role: str) -> list[str]:
        python = find_python(self.contender)
        if self.contender is MILLPOND and role == "work":
            return [python, "-m", "millpond.worker"]
        return [python, str(PEERS / self.contender.program), role]


def measure_rate(contender: Contender, tasks: int) -> Round:
    """All tasks wait already when the worker starts."""
    tasks = max(500, int(tasks * contender.tasks_share))
    with submitted(contender, tasks) as site:
        # What the server does until the first task starts, it does for all of them: it counts.
        server_before = _cpu_of_tree(site.server.pid)
        with working(site) as worker:
            eventually_sync(lambda: _alive(site, worker) and site.first.exists(), LIMIT, "the first task", 0.01)
            first = json.loads(site.first.read_text())
            eventually_sync(lambda: _alive(site, worker) and site.meter.exists(), LIMIT, "the last task", 0.01)
            eventually_sync(lambda: is_stored(site), LIMIT, f"all results of {contender.name}", 0.01)
            seconds = time.monotonic() - first["first"]
            worker_cpu = _cpu_of_tree(worker.pid) - first["cpu"]
            server_cpu = _cpu_of_tree(site.server.pid) - server_before
    return Round(contender=contender.name, tasks=tasks, seconds=seconds, worker_cpu=worker_cpu, server_cpu=server_cpu)


def measure_latency(contender: Contender, rate: float, seconds: float) -> Latency:
    """A steady stream of tasks for a worker that is warm."""
    with _site(contender, int(rate * seconds) + 1) as site, working(site) as worker:
        _call(site, "paced", rate)
        eventually_sync(lambda: _alive(site, worker) and site.meter.exists(), LIMIT, "the last task", 0.05)
        waits = json.loads(site.meter.read_text())["waits"]
    return make_latency(contender.name, rate, waits)


@contextlib.contextmanager
def submitted(contender: Contender, tasks: int) -> Iterator[Site]:
    """A new server on which all tasks wait."""
    with _site(contender, tasks) as site:
        _call(site, "submit")
        yield site


@contextlib.contextmanager
def _site(contender: Contender, tasks: int) -> Iterator[Site]:
    with (
        running(contender.ground, tasks) as server,
        tempfile.TemporaryDirectory(prefix="millpond-bench-") as directory,
    ):
        site = Site(contender, server, Path(directory), tasks)
        if contender.prepares:
            _call(site, "prepare")
        yield site


def _call(site: Site, role: str, rate: float = 0.0) -> None:
    """Run one of the contender's roles to its end."""
    options: dict[str, Any] = {"cwd": PEERS, "capture_output": True, "text": True, "timeout": LIMIT}
    done = subprocess.run(site.command(role), env=site.environment(rate), check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{site.contender.name}: {role} ended with {done.returncode}:\n{done.stderr[-2000:]}")


@contextlib.contextmanager
def working(site: Site) -> Iterator["subprocess.Popen[bytes]"]:
    """The worker, as a group of processes of its own that is killed at the end: what it did is stored or counts not."""
    with (site.directory / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            site.command("work"), env=site.environment(), cwd=PEERS, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _alive(site: Site, worker: "subprocess.Popen[bytes]") -> bool:
    if worker.poll() is not None:
        log = (site.directory / "worker.log").read_text(errors="replace")
        raise RuntimeError(f"{site.contender.name}: the worker ended with {worker.returncode}:\n{log[-2000:]}")
    return True


def is_stored(site: Site) -> bool:
    """Whether every question has its answer: the queue is empty, the results are there."""
    for question, factor, offset in site.contender.done:
        found, wanted = site.server.ask(question), factor * site.tasks + offset
        if found < wanted or (factor == 0 and found != wanted):
            return False
    return True


def _cpu_of_tree(root: int) -> float:
    """Seconds of CPU of a process and of all below it, those that have ended included."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            own, _, rest = file.read_text().rpartition(")")
            pid, fields = int(own.partition(" ")[0]), rest.split()
            parents[pid], ticks[pid] = int(fields[1]), sum(int(field) for field in fields[11:15])
    mine, found = {root}, -1
    while found != len(mine):
        found = len(mine)
        mine |= {pid for pid, parent in parents.items() if parent in mine}
    return sum(ticks.get(pid, 0) for pid in mine) / _TICKS
