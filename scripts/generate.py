"""Write what is generated: `python scripts/generate.py [--check]`.

Owns which files come from the contract: the kinds' schemas (crds/, and the chart's copy) and the two state diagrams
in the README, between `<!-- states:task -->` and `<!-- /states:task -->` (and `worker`). `--check` writes nothing and
fails on drift. It must not hold anything of the contract itself.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from millpond_api import crdgen
from millpond_api.lifecycle import TASK_TRANSITIONS, TERMINAL, WORKER_ENDED, WORKER_TRANSITIONS, Transition

ROOT = Path(__file__).resolve().parent.parent
CRD_FOLDERS = (ROOT / "crds", ROOT / "charts" / "millpond" / "crds")
README = ROOT / "README.md"
GENERATED = ("crds", "charts/millpond/crds", "README.md")

_MACHINES = {
    "task": (TASK_TRANSITIONS, frozenset(TERMINAL), "Pending"),
    "worker": (WORKER_TRANSITIONS, frozenset(WORKER_ENDED), "Starting"),
}


def make_diagram(transitions: Sequence[Transition], ends: frozenset[str], start: str) -> str:
    """The table as mermaid; one cause between one state and many others is one arrow, or nobody could read it."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {start}"]
    groups: list[str] = []
    for why, sources, targets in _gather(transitions):
        lines.append(f"    {_node(sources, groups)} --> {_node(targets, groups)}: {_label(why)}")
    lines[2:2] = [f'    state "any of {names}" as any{number}' for number, names in enumerate(groups, start=1)]
    lines += [f"    {state} --> [*]" for state in sorted(ends)]
    return "\n".join([*lines, "```"])


def _gather(transitions: Sequence[Transition]) -> list[tuple[str, list[str], list[str]]]:
    """Rows as (why, sources, targets): rows that share cause and target, else cause and source, become one."""
    rows: dict[tuple[str, str], list[str]] = {}
    for step in transitions:
        rows.setdefault((step.why, step.target), []).append(step.source)
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (why, target), sources in rows.items():
        merged.setdefault((why, tuple(sources)), []).append(target)
    return [(why, list(sources), targets) for (why, sources), targets in merged.items()]


def _node(states: list[str], groups: list[str]) -> str:
    """A state's own name; several get a box of their own, numbered in `groups`."""
    if len(states) == 1:
        return str(states[0])
    names = ", ".join(states)
    if names not in groups:
        groups.append(names)
    return f"any{groups.index(names) + 1}"


def _label(why: str) -> str:
    """Mermaid ends a label at ';' and reads ':' as its beginning."""
    return why.replace(";", ",").replace(":", ",")


def make_readme(text: str) -> str:
    """The README with its diagrams made anew; unchanged where it has no markers."""
    for name, machine in _MACHINES.items():
        begin, end = f"<!-- states:{name} -->", f"<!-- /states:{name} -->"
        block = f"{begin}\n{make_diagram(*machine)}\n{end}"
        text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def generate(check: bool) -> int:
    """Write everything, or compare; 0 when nothing is out of date."""
    code = crdgen.main([*map(str, CRD_FOLDERS), *(["--check"] if check else [])])
    if README.exists():
        text = README.read_text(encoding="utf-8")
        if (made := make_readme(text)) != text:
            if check:
                print("out of date: README.md; run `make generate` and commit", file=sys.stderr)
                code = 1
            else:
                README.write_text(made, encoding="utf-8")
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is out of date")
    return generate(parser.parse_args(arguments).check)


if __name__ == "__main__":
    sys.exit(main())
