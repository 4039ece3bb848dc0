"""`python -m bench.queue.profile`: where a no-op task's CPU goes in Millpond's worker, by thread and by kind of work.

    python -m bench.queue.profile [--tasks 15000] [--rounds 3] [--out docs/benchmarks]

CPU by thread is the kernel's count, of the round with the least: what else runs on the machine only adds to it. The
split of the main thread is by samples (py-spy at 250 Hz of who holds the interpreter, in a round of its own, because
sampling stops the process): a sample belongs to the kind of the innermost frame whose module has one.
"""

import argparse
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench.machine import read_machine, with_load
from bench.queue.contenders import MILLPOND
from bench.queue.environments import find_environment
from bench.queue.model import MAIN, SERVER, QueueProfile
from bench.queue.page import describe_profile
from bench.queue.runs import LIMIT, Site, is_stored, submitted, working
from tests.support.eventually import eventually_sync

PROFILE = "queue-profile.json"
RATE = 250
LEAST = 0.5
"""Microseconds a task; threads below that are not named."""
KINDS = {
    "NATS' frames in and out, the socket": ("connection", "frames", "streams", "transport_", "client"),
    "requests and their answers": ("transport", "answers", "outgoing", "link"),
    "deliveries, pulls, slots, leases": ("pulls", "delivery", "intake", "leases", "understudy", "offering", "limiter"),
    "models: the envelope read, events made": ("malformed", "envelope", "main", "subjects"),
    "claim, outcome, ack: what to do": (
        "attempt",
        "execution",
        "outcomes",
        "limiting",
        "timeouts",
        "packing",
        "registry",
        "retry",
    ),
    "events as bytes": ("journal", "events"),
    "to the handler's thread and back": ("executors", "hosts", "inline", "calling", "context", "tracing"),
    "announcements, counts": ("runtime", "announcer", "board"),
}
"""Work → modules. `transport_` is asyncio's, `main` pydantic's."""
THREADS = (MAIN, "lease keeper", "async handlers")
REST = "the loop itself, and what has no kind"
_FRAME = re.compile(r"\((?P<path>.*?)(?P<module>\w+)\.py:\d+\)$")


def main() -> int:
    """0 when the table is printed."""
    given, machine = _read_arguments(), read_machine("bench-queue-profile")
    found = min((_measure(given.tasks) for _ in range(given.rounds)), key=lambda one: sum(one.values()))
    profile = QueueProfile(
        tasks=given.tasks,
        threads={name: micros for name, micros in found.items() if micros >= LEAST},
        kinds=_sample(given.tasks),
        machine=with_load(machine),
    )
    print(describe_profile(profile))
    if given.out:
        (given.out / PROFILE).write_text(profile.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


def _measure(tasks: int) -> dict[str, float]:
    """Microseconds a task of each thread of the worker, and of the server."""
    with submitted(MILLPOND, tasks) as site, working(site) as worker:
        server = sum(_read_threads(site.server.pid).values())
        eventually_sync(site.first.exists, LIMIT, "the first task", 0.002)
        begun = _read_threads(worker.pid)
        _finish(site)
        ended = _read_threads(worker.pid)
        server = sum(_read_threads(site.server.pid).values()) - server
    spent = {name: (micros - begun.get(name, 0.0)) / tasks for name, micros in ended.items()}
    return {**spent, SERVER: server / tasks}


def _sample(tasks: int) -> list[tuple[str, float]]:
    """Shares of the main thread's samples by kind of work."""
    spy = find_environment("py-spy") / "bin" / "py-spy"
    with submitted(MILLPOND, tasks) as site, working(site) as worker:
        eventually_sync(site.first.exists, LIMIT, "the first task", 0.002)
        out = site.directory / "samples.txt"
        words = [str(spy), "record", "--pid", str(worker.pid), "--rate", str(RATE), "--duration", "600"]
        words += ["--format", "raw", "--threads", "--gil", "--output", str(out)]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        _finish(site)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=LIMIT)
        return classify(out.read_text(encoding="utf-8"))


def classify(samples: str) -> list[tuple[str, float]]:
    """Shares by kind of the main thread's samples in py-spy's raw format: `frame;frame;… count`, outermost first."""
    found: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        if "MainThread" in stack:
            found[_kind(stack.split(";"))] += int(count)
    whole = sum(found.values()) or 1
    return sorted(((kind, count / whole) for kind, count in found.items()), key=lambda one: -one[1])


def _kind(frames: list[str]) -> str:
    for frame in reversed(frames):
        match = _FRAME.search(frame)
        if match is None:
            continue
        module = match["module"] + ("_" if match["module"] == "transport" and "asyncio" in match["path"] else "")
        for kind, modules in KINDS.items():
            if module in modules:
                return kind
    return REST


def _finish(site: Site) -> None:
    eventually_sync(site.meter.exists, LIMIT, "the last task", 0.01)
    eventually_sync(lambda: is_stored(site), LIMIT, "all results", 0.01)


def _read_threads(pid: int) -> dict[str, float]:
    """Microseconds of CPU so far by thread. Threads have numbers in the order in which the worker starts them."""
    found: dict[str, float] = {}
    folders = sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda one: int(one.name))
    for number, folder in enumerate(folders):
        name = THREADS[number] if number < len(THREADS) else f"thread {number}"
        found[name] = int((folder / "schedstat").read_text().split()[0]) / 1e3
    return found


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.queue.profile", description="CPU of a no-op task by work")
    parser.add_argument("--tasks", type=int, default=15_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None, help=f"folder for {PROFILE}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
