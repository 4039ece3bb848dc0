"""`python -m bench.simulate [--check]`: the simulator's tables and plots in docs/scaling.md, from fixed seeds.

Owns which traces, which policy and which seeds the document shows, and that the text says who is dominated: what is
written comes from the outcomes, never by hand. Runs in some 15 s; with --check it writes nothing and fails
when the document says something else than the code does.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from millpond_scaling import Policy
from millpond_scaling.simulate import Outcome, Setting
from millpond_scaling.simulate.contest import Contest, dominated
from millpond_scaling.simulate.report import markdown, svg
from millpond_scaling.simulate.traces import SHAPES, generate

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scaling.md"
PLOTS = ROOT / "docs" / "plots"
SEED = 1
SEEDS = (1, 2, 3)
"""The first is shown; who is dominated is said for all of them."""
POLICY = Policy(max_workers=100, lag_per_slot=1.0)


def play(name: str, seed: int) -> list[Outcome]:
    """All policies on one trace."""
    return Contest(generate(name, seed), Setting(POLICY.slots, seed=seed), POLICY).run()


def section(name: str, outcomes: Sequence[Outcome]) -> str:
    """A trace's heading, table and plot."""
    shape = SHAPES[name]
    tasks = len(outcomes[0].latencies) + outcomes[0].unfinished
    heading = f"#### {name}: {shape.about} ({tasks:,} tasks of {shape.service.median:g} s, log-normal)"
    return f"{heading}\n\n{markdown(outcomes, POLICY.slots)}\n\n![{name}](plots/simulate-{name}.svg)\n"


def verdict(found: Iterable[tuple[str, int, Outcome, Outcome]]) -> str:
    """A line for each policy of ours that a rival dominates; a sentence when none does."""
    lines = [
        f"* {name}, seed {seed}: {ours.policy} ({_both(ours)}) by {rival.policy} ({_both(rival)})."
        for name, seed, ours, rival in found
    ]
    seeds = ", ".join(str(seed) for seed in SEEDS)
    if not lines:
        return f"With the seeds {seeds}, no rival has both a lower p99 and fewer worker-seconds on any trace.\n"
    head = f"Of Millpond's policies a rival dominates (lower p99 and fewer worker-seconds; seeds {seeds}):"
    return "\n".join([head, "", *lines, ""])


def _both(outcome: Outcome) -> str:
    return f"p99 {outcome.percentile(0.99):.1f} s, {outcome.worker_seconds:.0f} worker-seconds"


def make(seeds: Sequence[int] = SEEDS) -> dict[Path, str]:
    """The text of every file that is generated."""
    texts: dict[Path, str] = {}
    parts, found = [], []
    for name in SHAPES:
        for seed in seeds:
            outcomes = play(name, seed)
            found += [(name, seed, ours, rival) for ours, rival in dominated(outcomes)]
            if seed == SEED:
                parts.append(section(name, outcomes))
                texts[PLOTS / f"simulate-{name}.svg"] = svg(SHAPES[name].about, outcomes)
    block = f"<!-- simulate -->\n{verdict(found)}\n" + "\n".join(parts) + "<!-- /simulate -->"
    page = PAGE.read_text(encoding="utf-8")
    texts[PAGE] = re.sub("<!-- simulate -->.*?<!-- /simulate -->", lambda _: block, page, flags=re.DOTALL)
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is out of date")
    check = parser.parse_args(arguments).check
    stale = {path: text for path, text in make().items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        print(f"{'out of date' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
