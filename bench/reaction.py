"""How fast a pool follows its queue: Millpond and the real KEDA on one cluster, one NATS, the same pods.

    python -m bench.reaction [--part scaling|flapping] [--rounds N] [--millpond-rounds N] [--out FOLDER]

Measured is the time from the publish (or purge) until the Deployment asks for the wanted number of replicas, seen by a
watch from outside on this machine's clock, and the number of changes of spec.replicas until then. Rounds begin at a
random moment of the scaler's longest period. Millpond's ways up run alone, one after the other. Then KEDA's set-ups run
side by side, each one's rounds one after the other: what they wait for are polls and HPA syncs, not cores. The pods
exist and are held back by a scheduling gate, but for those that Millpond drains (20→0). Owns the order of rounds;
writes nothing but its result.
"""

import argparse
import asyncio
import random
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from millpond_cluster.paths import DEFAULT_NAME
from pydantic import BaseModel

from bench.contenders import Keda, Millpond
from bench.figures import Round, Spread, format_time, make_table, spread
from bench.ground import Facts, Ground, close_facts, prepared, read_facts, save
from bench.scenarios import BURST, KEDAS, MILLPOND, MILLPOND_WIDE, SCENARIOS, SHORT, TO_ZERO, Scenario, Setup
from bench.storm import is_clean, ride_out, show
from bench.weather import FLAPPING

COMMAND = "make bench-reaction"
MILLPOND_TO_ZERO_ROUNDS = 2
"""Twenty real workers take a minute to start."""


class Reactions(BaseModel):
    """The result of a run."""

    facts: Facts
    rounds: list[Round]

    def spreads(self) -> dict[tuple[str, str], Spread]:
        keys = dict.fromkeys((one.setup, one.scenario) for one in self.rounds)
        return {key: spread(one for one in self.rounds if (one.setup, one.scenario) == key) for key in keys}


@dataclass
class Bench:
    """The rounds of a run, as they come in."""

    rounds: list[Round] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: dict[str, int] = field(default_factory=dict)

    def measure(self, side: Millpond | Keda, setup: Setup, scenario: Scenario) -> None:
        """One round with a target of its own."""
        target = self._name(setup, scenario)
        reached, began = None, 0.0
        try:
            side.make(target, setup, scenario)
            time.sleep(random.uniform(0.2, 0.2 + setup.phase))
            mark = side.replicas.mark(target)
            began = asyncio.run(self._disturb(side, target, scenario))
            reached = side.replicas.reach(target, scenario.wanted, mark, scenario.limit)
        except AssertionError as error:
            # A target that never became ready is a round that did not reach its end; the others are kept.
            print(error, flush=True)
        side.remove(target)
        seconds, patches = (reached[0] - began, reached[1]) if reached else (None, 0)
        with self._lock:
            self.rounds.append(Round(setup=setup.name, scenario=scenario.name, seconds=seconds, patches=patches))
            print(f"{setup.name:44} {scenario.name:6} {format_time(seconds):>8}  {patches} patches", flush=True)

    async def _disturb(self, side: Millpond | Keda, target: str, scenario: Scenario) -> float:
        """Publish, or empty the queue; the moment before the first of it, with the connection already there."""
        if not scenario.publish:
            return await side.queues.empty(target)
        began, _ = await side.queues.publish(target, [[0, number] for number in range(scenario.publish)])
        return began

    def _name(self, setup: Setup, scenario: Scenario) -> str:
        with self._lock:
            kind = "k" if setup.keda else "m"
            number = self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return f"{kind}{number}"

    def measure_up(self, side: Millpond, rounds: int) -> None:
        """Millpond's ways up, alone on the machine."""
        for scenario in SHORT:
            for _ in range(rounds):
                self.measure(side, MILLPOND, scenario)

    def measure_rest(self, ground: Ground, setups: Sequence[Setup], rounds: int) -> None:
        """Each of KEDA's set-ups on its way up, and every set-up's way to zero beside them."""

        def measure_short(setup: Setup) -> None:
            for _ in range(rounds):
                for scenario in SHORT:
                    self.measure(ground.keda, setup, scenario)

        def measure_to_zero(setup: Setup) -> None:
            # With KEDA's default cooldown a round takes more than five minutes.
            for _ in range(max(1, rounds // 2)):
                self.measure(ground.keda, setup, TO_ZERO)

        def measure_drains() -> None:
            for setup in (MILLPOND, MILLPOND_WIDE):
                for _ in range(MILLPOND_TO_ZERO_ROUNDS):
                    self.measure(ground.millpond, setup, TO_ZERO)

        with ThreadPoolExecutor(2 * len(setups) + 1) as lanes:
            under_way = [lanes.submit(lane, setup) for setup in setups for lane in (measure_short, measure_to_zero)]
            for one in (*under_way, lanes.submit(measure_drains)):
                one.result()


def make_reaction_table(result: Reactions) -> str:
    """One line for each set-up and scenario."""
    found = result.spreads()
    order = [one.name for one in (MILLPOND, MILLPOND_WIDE, *KEDAS)]
    rows = [
        [scenario.name, setup, *(format_time(value) for value in (one.p50, one.p99, one.slowest)), *_counts(one)]
        for scenario in SCENARIOS
        for setup in order
        if (one := found.get((setup, scenario.name)))
    ]
    return make_table(["change", "scaler", "p50", "p99", "slowest", "patches, at most", "rounds"], rows)


def _counts(one: Spread) -> list[str]:
    return [str(one.patches), f"{one.rounds - one.missed} of {one.rounds}" if one.missed else str(one.rounds)]


def make_goal_lines(result: Reactions) -> list[str]:
    """How the run stands to the goals: 0→1 below 100 ms (p99 1 s), 0→20 in one patch, 20 times as fast as KEDA."""
    found = result.spreads()
    ours = found.get((MILLPOND.name, BURST.name))
    if ours is None or not ours.p50:
        return []
    lines = [f"0→20 took {ours.patches} patch{'es' if ours.patches > 1 else ''} at most"]
    for setup in KEDAS:
        theirs = found.get((setup.name, BURST.name))
        if theirs and theirs.p50:
            lines.append(f"{setup.name}: 0→20 took {theirs.p50 / ours.p50:,.0f} times as long (p50)")
    return lines


def measure_scaling(ground: Ground, options: argparse.Namespace) -> Reactions:
    """All rounds of both sides, told as they come."""
    setups = [one for one in KEDAS if not options.setup or any(word in one.name for word in options.setup)]
    facts, bench = read_facts(COMMAND, ground.node), Bench()
    bench.measure_up(ground.millpond, options.millpond_rounds)
    bench.measure_rest(ground, setups, options.rounds)
    result = Reactions(facts=close_facts(facts), rounds=bench.rounds)
    print("\n" + make_reaction_table(result), *make_goal_lines(result), sep="\n", flush=True)
    return result


def main() -> int:
    """0 when every round came to its end within its limit, and no flap interrupted a run of Millpond's."""
    parser = argparse.ArgumentParser(description="Publish → Deployment patched: Millpond and KEDA side by side.")
    parser.add_argument("--part", choices=["scaling", "flapping"], help="only this part")
    parser.add_argument("--rounds", type=int, default=3, help="of each of KEDA's set-ups")
    parser.add_argument("--millpond-rounds", type=int, default=20)
    parser.add_argument("--setup", action="append", help="only KEDA's set-ups whose name holds this")
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster's name (make cluster-up)")
    parser.add_argument("--out", type=Path, help="write the results as JSON into this folder")
    options = parser.parse_args()
    good = True
    with prepared(options.name) as ground:
        if options.part != "flapping":
            result = measure_scaling(ground, options)
            good = all(one.seconds is not None for one in result.rounds)
            save(options.out, "reaction", result)
        if options.part != "scaling":
            storm = ride_out(ground, FLAPPING, "30s", COMMAND)
            show(storm)
            good = good and is_clean(storm)
            save(options.out, "flapping", storm)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
