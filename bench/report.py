"""docs/benchmarks.md, made from the results of runs: `python -m bench.report`.

Owns the page. Its figures stand in docs/benchmarks/*.json, written by `--out docs/benchmarks` of the benchmarks, and
nothing on the page is typed by hand but what explains them.
"""

import sys
from pathlib import Path

from bench.ground import Facts
from bench.queue.model import QueueProfile, QueueResult
from bench.queue.page import describe, describe_profile
from bench.reaction import Reactions, make_goal_lines, make_reaction_table
from bench.scenarios import KEDAS, LAG_PER_WORKER, MOST
from bench.storm import Storm, make_storm_table

DOCS = Path(__file__).parents[1] / "docs"
RESULTS, PAGE = DOCS / "benchmarks", DOCS / "benchmarks.md"

_SETUPS = "; ".join(setup.name.removeprefix("KEDA, ") for setup in KEDAS)
HEAD = f"""# Benchmarks

Millpond beside the real KEDA (operator and metrics adapter, built from KEDA's own module) on the same cluster, with the
same NATS, the same kind of queue and the same pods. This page is made by `python -m bench.report` from the results in
[benchmarks/](benchmarks); the commands stand beside the figures.

Both sides aim for {LAG_PER_WORKER} tasks a worker and {MOST} workers at most. The HPA looks every 15 s, its default.
KEDA's set-ups: {_SETUPS}
(scaleUp and scaleDown without stabilization, 100 % or 1,000 pods a second, selectPolicy Max; cooldownPeriod 0).
"""
REACTION = """## Reaction

From the publish (20→0: from the queue's being emptied) until the Deployment asks for the wanted number of replicas,
seen by a watch from outside. Rounds begin at a random moment; the pods are held back by a scheduling gate, so that
their start takes no cores. p99 of few rounds is the slowest one. *Patches* are changes of `spec.replicas`
until the wanted number.
"""
FLAPPING = """## Busy workers while the pool flaps

The ceiling jumps between 1 and 6 every 18 s, twenty times, while tasks of 5 to 60 s run; both sides at the same time on
the same node. KEDA polls every second and its HPA is opened wide. Workers of both sides finish what they run within the
grace period when they are told to go (they are the same image), and give the rest back.
"""
STORM = """## The storm

10,000 tasks in 20 waves while bounds are edited every 15 s, replicas are set by hand and unset twice, the template
changes twice, the scaler is killed once and the node is drained once; both sides at the same time on the same node. A
run was *interrupted* when its task was given back or claimed again before it had an outcome.
"""


QUEUE = """## Task throughput

No-op tasks with a stored result through one worker process, all waiting when it starts; the contenders take turns,
each round on a new server on the same machine, each contender in an environment of its own with pinned versions
(`bench/queue/peers`). A rate counts from the first task's start until the last result is stored. *Worker µs* and
*server µs* are CPU for a task, user and system. *Half load* is a steady stream at half of the contender's own rate, and
the waits there are from before submit until the handler starts.

Two loops stand beside the contenders as bounds. *raw pull and ack* is nats-py by hand: pulls of 500, acks that nobody
confirms, on a work queue in files; no claim, no result. *raw claim, result and ack* stores what Millpond stores, in the
same order and with the same confirmations, and does nothing else: what the protocol costs at least. A peer sets the
goal if it keeps results; the second table says what each has on disk when it answers, and what it keeps.
"""

PROFILE = """### Where a task's CPU goes

Millpond's worker under no-op tasks. CPU by thread is the kernel's count (the round with the least); the split of the
main thread is by samples of who holds the interpreter, whose innermost frame with a kind of its own says what it is.
The worker's threads take turns at one interpreter, so their sum bounds its rate; the server runs beside it.
"""


def make_page(folder: Path) -> str:
    """The page from the results that lie in the folder."""
    parts = [HEAD]
    if (file := folder / "reaction.json").exists():
        result = Reactions.model_validate_json(file.read_bytes())
        goals = "\n".join(f"* {line}" for line in make_goal_lines(result))
        parts += [REACTION, make_reaction_table(result) + "\n", goals + "\n", _describe(result.facts)]
    for name, text in (("flapping", FLAPPING), ("storm", STORM)):
        if (file := folder / f"{name}.json").exists():
            storm = Storm.model_validate_json(file.read_bytes())
            parts += [text, make_storm_table(storm) + "\n", *_list_details(storm), _describe(storm.facts, storm.grace)]
    if (file := folder / "queue.json").exists():
        queue = QueueResult.model_validate_json(file.read_bytes())
        parts += [QUEUE, describe(queue) + "\n"]
    if (file := folder / "queue-profile.json").exists():
        parts += [PROFILE, describe_profile(QueueProfile.model_validate_json(file.read_bytes())) + "\n"]
    return "\n".join(parts)


def _list_details(storm: Storm) -> list[str]:
    """Why tasks failed, and which steps were refused."""
    lines = [
        f"* {name}: {count} failed with {reason}"
        for name, verdict in storm.verdicts.items()
        for reason, count in verdict.failed.items()
    ]
    lines += [f"* {name}: refused: {text}" for name, texts in storm.refused.items() for text in texts]
    return ["\n".join(lines) + "\n"] if lines else []


def _describe(facts: Facts, grace: str = "") -> str:
    until = f"; grace period {grace}" if grace else ""
    return (
        f"`{facts.command}` on {facts.at:%Y-%m-%d} at {facts.commit}: {facts.machine}, Kubernetes {facts.kubernetes}, "
        f"KEDA {facts.keda}, load {facts.load[0]:.1f} → {facts.load[1]:.1f}, {facts.seconds / 60:.0f} min{until}.\n"
        + (f"\n{facts.note}\n" if facts.note else "")
    )


def _read_scale() -> str:
    """The section that `bench.scale` has written into the page, as it stands."""
    _, begin, rest = PAGE.read_text(encoding="utf-8").partition("<!-- bench:scale -->")
    return f"\n{begin}{rest}" if begin else ""


def main() -> int:
    """0 when the page is written."""
    PAGE.write_text(make_page(RESULTS) + _read_scale(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
