"""A storm on both sides at once: tasks run while the pools are forced to flap, roll, lose their scaler and their node.

    python -m bench.storm [--weather storm|flapping] [--grace 30s] [--out FOLDER]

Owns the order of what is done and the judgement, which is made of what others wrote: the tasks' logs in the broker and
the pods' deletions as the API server told them. Both sides have the same tasks, the same pods on the same node and the
same steps at the same second. A step that is refused is told and the storm goes on.
"""

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from millpond_cluster.errors import ClusterError
from millpond_cluster.paths import DEFAULT_NAME
from pydantic import BaseModel

from bench.eventlog import read_logs
from bench.figures import make_table
from bench.ground import Facts, Ground, close_facts, prepared, read_facts, save
from bench.sides import STORM, KedaSide, MillpondSide, Side, cordon, evict_all
from bench.verdict import Verdict, judge
from bench.watches import Departures, Watch
from bench.weather import FLAPPING, Action, Step, Weather
from bench.weather import STORM as STORM_WEATHER
from tests.support.kube import Kube, Refused

CORDON_SECONDS = 90.0
"""The node takes no new pods until both sides' have been evicted, as with `kubectl drain`, and no longer than this."""
LOOK = 1.0
GATE_SECONDS = 120.0
"""For all threads to be there: a side whose watch can't begin must not leave the others waiting."""


class Storm(BaseModel):
    """The result of a storm: each side's verdict, how long its queue took to empty, and what was refused."""

    facts: Facts
    weather: str
    grace: str
    verdicts: dict[str, Verdict]
    seconds: dict[str, float]
    refused: dict[str, list[str]]


@dataclass
class Ride:
    """One side's way through a storm."""

    side: Side
    weather: Weather
    tasks: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    departures: Departures = field(default_factory=Departures)
    seconds: float = 0.0
    waiting: int = 0
    drained: threading.Event = field(default_factory=threading.Event)
    _began: float = 0.0
    _rolls: int = 0

    def run(self, gate: threading.Barrier) -> None:
        """Through the whole weather, until the queue is empty or the time is up."""
        watch = Watch(self.side.kube, "pods", self.departures.see)
        watch.begin()
        gate.wait(GATE_SECONDS)
        self._began = time.monotonic()
        with ThreadPoolExecutor(1) as publisher:
            published = publisher.submit(self._publish)
            for step in sorted(self.weather.steps, key=lambda one: one.at):
                self._await_second(step.at)
                self._do(step)
            published.result()
        self._await_end()
        watch.close()

    def _await_second(self, second: float) -> None:
        time.sleep(max(0.0, self._began + second - time.monotonic()))

    def _publish(self) -> None:
        for number, wave in enumerate(self.weather.load.split()):
            self._await_second(number * self.weather.load.every)
            batch = [[seconds, number] for seconds in wave]
            _, ids = asyncio.run(self.side.queues.publish(STORM, batch))
            self.tasks += ids

    def _do(self, step: Step) -> None:
        try:
            self._act(step)
        except (Refused, ClusterError, AssertionError) as error:
            self.refused.append(f"{step.action} at {step.at:g} s: {error}")

    def _act(self, step: Step) -> None:
        match step.action:
            case Action.BOUNDS:
                self.side.bound(step.least, step.most)
            case Action.PIN:
                self.side.pin(step.most)
            case Action.UNPIN:
                self.side.unpin()
            case Action.ROLL:
                self._rolls += 1
                self.side.roll(str(self._rolls))
            case Action.KILL:
                self.side.kill()
            case Action.DRAIN:
                try:
                    self.refused += [f"{step.action}: {pod} would not go" for pod in evict_all(self.side)]
                finally:
                    self.drained.set()

    def _await_end(self) -> None:
        """An empty queue, or the limit."""
        while (left := self.side.queues.depth(STORM)) and time.monotonic() < self._began + self.weather.limit:
            time.sleep(LOOK)
        self.waiting = left
        self.seconds = round(time.monotonic() - self._began, 1)

    def judge(self) -> Verdict:
        logs = asyncio.run(read_logs(self.side.queues.url, self.side.queues.namespace, STORM))
        return judge(self.tasks, logs, self.departures.moments, self.waiting)


def ride_out(ground: Ground, weather: Weather, grace: str, command: str) -> Storm:
    """Both sides through the same weather at the same time."""
    facts = read_facts(command, ground.node)
    sides: Sequence[Side] = (
        MillpondSide(ground.millpond, ground.node),
        KedaSide(ground.keda, ground.millpond, ground.cluster),
    )
    for side in sides:
        side.begin(weather, grace)
    rides = [Ride(side, weather) for side in sides]
    gate = threading.Barrier(len(rides) + 1)
    with ThreadPoolExecutor(len(rides) + 1) as executor:
        under_way = [executor.submit(ride.run, gate) for ride in rides]
        under_way.append(executor.submit(_cordon_for_drain, ground.node, rides, gate))
        for one in under_way:
            one.result()
    result = Storm(
        facts=close_facts(facts),
        weather=weather.name,
        grace=grace,
        verdicts={ride.side.name: ride.judge() for ride in rides},
        seconds={ride.side.name: ride.seconds for ride in rides},
        refused={ride.side.name: ride.refused for ride in rides},
    )
    ground.millpond.remove(STORM)
    ground.keda.remove(STORM)
    return result


def _cordon_for_drain(node: Kube, rides: Sequence[Ride], gate: threading.Barrier) -> None:
    """The node is closed just before the drain, if there is one, and open again afterwards, whatever happens."""
    gate.wait(GATE_SECONDS)
    began = time.monotonic()
    for step in rides[0].weather.steps:
        if step.action is Action.DRAIN:
            time.sleep(max(0.0, began + step.at - 0.5 - time.monotonic()))
            cordon(node, True)
            try:
                until = time.monotonic() + CORDON_SECONDS
                for ride in rides:
                    ride.drained.wait(max(0.0, until - time.monotonic()))
            finally:
                cordon(node, False)


_ROWS: tuple[tuple[str, Callable[[Verdict], object]], ...] = (
    ("tasks", lambda one: one.tasks),
    ("succeeded", lambda one: one.succeeded),
    ("failed", lambda one: one.tasks - one.succeeded - one.lost - one.waiting),
    ("still in the queue at the end", lambda one: one.waiting),
    ("tasks lost", lambda one: one.lost),
    ("runs interrupted", lambda one: one.interrupted),
    ("work done again, s", lambda one: one.wasted_seconds),
    ("tasks with two outcomes", lambda one: one.two_outcomes),
    ("worker pods told to go", lambda one: one.stopped),
    ("of them while busy", lambda one: one.stopped_busy),
)


def make_storm_table(storm: Storm) -> str:
    """One column for each side."""
    names = list(storm.verdicts)
    rows = [[label, *(f"{read(storm.verdicts[name]):,}" for name in names)] for label, read in _ROWS]
    rows.append(["until the queue was empty, s", *(f"{storm.seconds[name]:,.0f}" for name in names)])
    return make_table([storm.weather, *names], rows)


def show(storm: Storm) -> None:
    """The table, and what was refused, in the terminal."""
    print(f"\n{make_storm_table(storm)}", flush=True)
    for name, refused in storm.refused.items():
        for text in refused:
            print(f"{name}: {text}", flush=True)
    for name, verdict in storm.verdicts.items():
        if verdict.failed:
            print(f"{name}: failed by reason: {verdict.failed}", flush=True)
    ours = storm.verdicts[MillpondSide.name]
    for text in (*(f"told: {text}" for text in ours.told), *(f"cut off: {text}" for text in ours.cut)):
        print(text, flush=True)


def is_clean(storm: Storm) -> bool:
    """Whether Millpond interrupted no run, lost no task and gave none two outcomes."""
    ours = storm.verdicts[MillpondSide.name]
    return not (ours.interrupted or ours.lost or ours.two_outcomes)


def main() -> int:
    """0 when Millpond interrupted no run, lost no task and gave none two outcomes."""
    parser = argparse.ArgumentParser(description="The same storm on Millpond and on KEDA with an HPA.")
    parser.add_argument("--weather", choices=["storm", "flapping"], default="storm")
    parser.add_argument("--grace", default="30s", help="the workers' grace period")
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster's name (make cluster-up)")
    parser.add_argument("--out", type=Path, help="write the result as JSON into this folder")
    options = parser.parse_args()
    weather = STORM_WEATHER if options.weather == "storm" else FLAPPING
    with prepared(options.name) as ground:
        storm = ride_out(ground, weather, options.grace, "make bench-storm")
    show(storm)
    save(options.out, options.weather, storm)
    return 0 if is_clean(storm) else 1


if __name__ == "__main__":
    sys.exit(main())
