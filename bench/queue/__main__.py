"""`python -m bench.queue`: rounds of all contenders, one after the other and in turn, then latencies at half load.

    python -m bench.queue [--tasks 20000] [--rounds 5] [--only Millpond,arq] [--latency 5] [--minutes 11]
                          [--out docs/benchmarks]

Needs no cluster. Redis and PostgreSQL are used if they are installed; a contender that cannot run is named with the
reason. With `--out` the result is written there and `python -m bench.report` makes the page from it.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from bench.machine import read_machine, with_load
from bench.queue.contenders import CONTENDERS, STORED, Contender
from bench.queue.environments import read_version
from bench.queue.grounds import NotHere
from bench.queue.model import Entry, Latency, QueueResult, Round, rates
from bench.queue.page import describe
from bench.queue.runs import measure_latency, measure_rate

NAME = "queue.json"
FAILED = (RuntimeError, AssertionError, subprocess.TimeoutExpired)
"""What a round ends with whose contender dies, hangs or never starts."""
LATENCY_START = 5.0
"""Seconds until server and worker run and the first task has started."""


def main() -> int:
    """0 when every contender that is here was measured."""
    given = _read_arguments()
    chosen = [one for one in CONTENDERS if not given.only or one.name in given.only.split(",")]
    result = QueueResult(
        machine=read_machine("bench-queue"), entries=[_make_entry(one) for one in chosen], rounds=[], latencies=[]
    )
    begun = time.monotonic()
    for number in range(given.rounds):
        round_begun = time.monotonic()
        for contender in chosen:
            _run_round(contender, result, given.tasks, number)
        now = time.monotonic()
        if now - begun + (now - round_begun) > given.minutes * 60 - _latency_time(chosen, given.latency):
            print(f"no time for more than {number + 1} rounds within {given.minutes:g} minutes", flush=True)
            break
    if given.latency:
        for contender in chosen:
            _run_latency(contender, result, given.latency)
    result = result.model_copy(update={"machine": with_load(result.machine)})
    print("\n" + describe(result))
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / NAME).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


def _run_round(contender: Contender, result: QueueResult, tasks: int, number: int) -> None:
    entry = next(one for one in result.entries if one.name == contender.name)
    if entry.missing:
        return
    try:
        done: Round = measure_rate(contender, tasks)
    except NotHere as reason:
        entry.missing = str(reason)
        print(f"{contender.name}: not measured: {reason}", flush=True)
        return
    except FAILED as error:
        _note_trouble(result, f"{contender.name}, round {number + 1}", error)
        return
    result.rounds.append(done)
    cpu = f"{done.worker_cpu / done.tasks * 1e6:5.0f} µs worker {done.server_cpu / done.tasks * 1e6:5.0f} µs server"
    print(f"round {number + 1}  {contender.name:24} {done.rate:9,.0f} tasks/s  {cpu}", flush=True)


def _run_latency(contender: Contender, result: QueueResult, seconds: float) -> None:
    rate = rates(result).get(contender.name)
    if rate is None or not contender.paced:
        return
    try:
        found: Latency = measure_latency(contender, rate / 2, seconds)
    except FAILED as error:
        _note_trouble(result, f"{contender.name}, half load", error)
        return
    result.latencies.append(found)
    print(
        f"half load  {contender.name:24} {found.rate:7,.0f}/s  p50 {found.p50 * 1000:7.1f} ms  "
        f"p99 {found.p99 * 1000:7.1f} ms",
        flush=True,
    )


def _note_trouble(result: QueueResult, what: str, error: Exception) -> None:
    """A contender that hangs or dies costs its round, not the run."""
    print(f"{what}: no figure: {error}", flush=True)
    last = str(error).strip().splitlines()[-1][:160] if str(error).strip() else type(error).__name__
    result.troubles.append(f"{what}: no figure: {last}")


def _latency_time(chosen: list[Contender], seconds: float) -> float:
    """About how long the latencies take: servers and workers start, too."""
    return sum(seconds + LATENCY_START for one in chosen if one.paced) if seconds else 0.0


def _make_entry(contender: Contender) -> Entry:
    return Entry(
        name=contender.name,
        version=read_version(contender).rpartition(" ")[2],
        server=contender.ground.value.partition(",")[0],
        stored=STORED[contender.ground],
        results=contender.results,
        promise=contender.promise,
        slots=contender.slots,
    )


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description="Task throughput beside peers")
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks of a round (slow contenders get a share)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=11.0, help="no round begins that would end later")
    parser.add_argument("--only", default="", help="names of contenders, with commas")
    parser.add_argument("--latency", type=float, default=5.0, help="seconds at half load for each; 0: none")
    parser.add_argument("--out", type=Path, default=None, help="folder for queue.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
