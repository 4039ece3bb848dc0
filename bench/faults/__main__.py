"""`python -m bench.faults`: a thousand tasks under each fault: none lost, none with two outcomes, no stale result.

    python -m bench.faults [--tasks 1000] [--strikes 20] [--only SIGKILL] [--out docs]
    python -m bench.faults --long --tasks 40 --strikes 4      # what holds a worker up for 60 s, at the default lease

Needs no cluster. Ends with 1 when a guarantee was broken, or a fault could not be done. With `--out docs` the result is
written to benchmarks/faults.json (faults-long.json) there, and the table of semantics.md is made from it.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from bench.faults.faults import FAULTS, LONG_FAULTS, run
from bench.faults.judge import FaultResult, Verdict, make_fault_table
from bench.machine import read_machine, with_load


def main() -> int:
    """0 when every fault was done and every guarantee held."""
    given = _read_arguments()
    machine = read_machine("bench-faults")
    verdicts: list[Verdict] = []
    for fault in LONG_FAULTS if given.long else FAULTS:
        if given.only in fault.name:
            verdicts.append(asyncio.run(run(fault, given.tasks, given.strikes)))
            print(verdicts[-1].model_dump_json(), flush=True)
    result = FaultResult(machine=with_load(machine), verdicts=verdicts)
    print("\n" + make_fault_table(verdicts))
    if given.out:
        write(result, given.out, "faults-long" if given.long else "faults")
    return 0 if verdicts and all(one.held for one in verdicts) else 1


def write(result: FaultResult, docs: Path, name: str) -> None:
    """The figures, and the table between its marks on the page."""
    (docs / "benchmarks" / f"{name}.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    page, begin, end = docs / "semantics.md", f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    head, mark, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closing, tail = rest.partition(end)
    if not mark or not closing:
        raise SystemExit(f"{page} has no {begin} … {end} to put the table between")
    page.write_text(f"{head}{begin}\n{describe(result)}\n{end}{tail}", encoding="utf-8")


def describe(result: FaultResult) -> str:
    """The table and where it comes from."""
    machine = result.machine
    facts = f"`{machine.command}` on {machine.at} at {machine.commit}: {machine.machine}. {machine.note}".rstrip()
    return f"{make_fault_table(result.verdicts)}\n\n{facts}"


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description="Faults, and what became of the tasks")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks for each fault")
    parser.add_argument("--strikes", type=int, default=20, help="how often each fault is done (10 at most for some)")
    parser.add_argument("--long", action="store_true", help="the faults of a minute each, at the default lease")
    parser.add_argument("--only", default="", help="faults whose name has this in it")
    parser.add_argument("--out", type=Path, default=None, help="the folder docs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
