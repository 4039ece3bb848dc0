"""Run the tiers of tests, one pytest each, and count: `python tests/run.py [TIER …] [-- PYTEST ARGUMENTS]`.

Owns the order of the tiers and what counts as success: every tier ran something, nothing failed, nothing was skipped.
It must not know what is tested. Survives a tier that dies without a report (counted as one failure) and a signal
(passed on, so that the tier's cluster is taken down by its fixture); what a SIGKILL leaves behind, the next run finds
by the cluster's name and takes over.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("unit", "broker", "cluster", "system")
FOLDERS = {"broker": ("tests/broker", "tests/conformance")}
"""Where a tier's tests are, if not in the folder of its name alone."""
STAGES = ((("unit", "broker"), ("cluster",)), (("system",),))
"""What runs side by side: the cluster tier mostly waits. The system tier measures, and has the machine to itself."""
PASSES = {"broker": (("-n", "2"),), "system": (("-m", "not alone", "-n", "3"), ("-m", "alone"))}
"""A tier's pytests. Broker tests mostly wait, on servers of their own process. Of the system tier those that hurt no
neighbour run side by side; then each that stops something shared, or measures, has the cluster to itself."""
NOTES, MORE_TO_COME = "MILLPOND_TESTS_NOTES", "MILLPOND_TESTS_MORE"
"""Variables for a tier of several passes: a folder that they share; and whether another pass follows, which wants the
cluster as it is (`tests.support.kube`, which this file can't import: it runs before anything is known to work)."""
NO_TESTS = 5
"""pytest's exit code when it collected nothing."""
NAMED, WORDS = 10, 200
"""Failed tests that are named at the end, and characters of each one's message: what a log that was cut still shows."""


@dataclass(frozen=True)
class Outcome:
    """What one tier did."""

    tier: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    note: str = ""
    broken: tuple[str, ...] = ()
    """Each test that failed: its id, a colon, the first line of what it said."""

    @property
    def ran(self) -> int:
        return self.passed + self.failed


def run_tier(tier: str, extra: Sequence[str]) -> Outcome:
    """The tier's passes, one after the other; what outlives the first of them is noted in a folder of this run."""
    passes, found = PASSES.get(tier, ((),)), []
    with tempfile.TemporaryDirectory(prefix="millpond-tests-") as directory:
        for number, chosen in enumerate(passes, 1):
            if INTERRUPTED:
                found.append(Outcome(tier, 0, 0, 0, 0.0, "interrupted"))
                break
            left = "" if number == len(passes) else "yes"
            notes = {NOTES: directory, MORE_TO_COME: left} if len(passes) > 1 else {}
            found.append(run_pass(tier, (*chosen, *extra), Path(directory) / f"report-{number}.xml", notes))
    return add_up(tier, found)


def add_up(tier: str, passes: Sequence[Outcome]) -> Outcome:
    """The passes of a tier as one outcome."""
    note = "; ".join(one.note for one in passes if one.note)
    passed, failed = sum(one.passed for one in passes), sum(one.failed for one in passes)
    skipped, seconds = sum(one.skipped for one in passes), sum(one.seconds for one in passes)
    return Outcome(tier, passed, failed, skipped, seconds, note, tuple(name for one in passes for name in one.broken))


def run_pass(tier: str, extra: Sequence[str], report: Path, notes: Mapping[str, str]) -> Outcome:
    """One pytest, printing as it goes; its counts come from its report."""
    print(f"\n→ {' '.join((tier, *extra))}", flush=True)
    began = time.monotonic()
    folders = FOLDERS.get(tier, (f"tests/{tier}",))
    shown = ("-v", "--tb=short", "--durations=5", f"--junitxml={report}")
    code = run_child([sys.executable, "-u", "-m", "pytest", *folders, *shown, *extra], tier, notes)
    seconds = time.monotonic() - began
    if report.exists():
        return read_report(tier, report, code, seconds)
    note = "" if code == NO_TESTS else f"pytest ended with {code} and left no report"
    return Outcome(tier, 0, 0 if code == NO_TESTS else 1, 0, seconds, note)


def run_child(command: Sequence[str], label: str, notes: Mapping[str, str]) -> int:
    """Run to the end, come what may, each line of output behind its tier's name."""
    environment = {**os.environ, **notes, "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    CHILDREN.append(child)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            sys.stdout.write(f"{label:<8}{line.decode(errors='replace')}")
            sys.stdout.flush()
        return child.wait()
    finally:
        CHILDREN.remove(child)


CHILDREN: list["subprocess.Popen[bytes]"] = []
"""The tiers that run now."""
INTERRUPTED: list[int] = []
"""Signals that arrived: the tiers that are left are not begun."""


@contextmanager
def passing_signals() -> Iterator[None]:
    """A signal to us becomes an interrupt of every tier that runs, so that its fixtures clean up."""

    def pass_on(number: int, _: FrameType | None) -> None:
        INTERRUPTED.append(number)
        # A terminal's ctrl-C reaches the children by itself.
        if number != signal.SIGINT:
            for child in list(CHILDREN):
                child.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_stage(stage: Sequence[Sequence[str]], tiers: Sequence[str], extra: Sequence[str]) -> list[Outcome]:
    """The stage's lanes side by side, in each lane one tier after the other."""

    def run_lane(lane: Sequence[str]) -> list[Outcome]:
        wanted = [tier for tier in lane if tier in tiers]
        stopped = Outcome("", 0, 0, 0, 0.0, "interrupted")
        return [replace(stopped, tier=tier) if INTERRUPTED else run_tier(tier, extra) for tier in wanted]

    with ThreadPoolExecutor(len(stage)) as pool:
        return [outcome for lane in pool.map(run_lane, stage) for outcome in lane]


def read_report(tier: str, report: Path, code: int, seconds: float) -> Outcome:
    """The counts of pytest's JUnit report; an exit code that they don't explain is a failure too."""
    root = ElementTree.parse(report).getroot()
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in root.iter("testsuite"):
        for name in totals:
            totals[name] += int(suite.get(name, 0))
    failed, skipped = totals["failures"] + totals["errors"], totals["skipped"]
    passed = max(0, totals["tests"] - failed - skipped)
    broken = tuple(read_broken(root))
    if code not in (0, 1, NO_TESTS) or (code == 1 and not failed):
        return Outcome(tier, passed, failed + 1, skipped, seconds, f"pytest ended with {code}", broken)
    return Outcome(tier, passed, failed, skipped, seconds, "", broken)


def read_broken(root: ElementTree.Element) -> Iterator[str]:
    """Every failed or errored test of a JUnit report by the id that pytest takes, with its message's first line."""
    for case in root.iter("testcase"):
        for sign in (*case.iter("failure"), *case.iter("error")):
            dotted, name = case.get("classname", ""), case.get("name", "?")
            # A class within the module, which would make this a wrong path, no test of ours has.
            place = f"{dotted.replace('.', '/')}.py::" if dotted else ""
            message = (sign.get("message") or "").strip() or "no message"
            yield f"{place}{name}: {message.splitlines()[0][:WORDS]}"


def problems(outcomes: Sequence[Outcome]) -> list[str]:
    """Why the run as a whole does not count as a success."""
    found = [f"{o.tier}: {o.failed} failed{f' ({o.note})' if o.note else ''}" for o in outcomes if o.failed]
    found += [f"{o.tier}: no test ran" for o in outcomes if not o.ran]
    if not os.environ.get("MILLPOND_ALLOW_SKIPS"):
        hint = "set MILLPOND_ALLOW_SKIPS=1 on a machine that cannot run them"
        found += [f"{o.tier}: {o.skipped} skipped; {hint}" for o in outcomes if o.skipped]
    return found


def print_table(outcomes: Sequence[Outcome]) -> None:
    """One line per tier and the sum; the very last line is the plain one that CI reads."""
    total = Outcome(
        "total",
        sum(o.passed for o in outcomes),
        sum(o.failed for o in outcomes),
        sum(o.skipped for o in outcomes),
        sum(o.seconds for o in outcomes),
    )
    print(f"\n{'tier':<10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for outcome in (*outcomes, total):
        counts = f"{outcome.passed:>8}{outcome.failed:>8}{outcome.skipped:>9}"
        print(f"{outcome.tier:<10}{counts}{outcome.seconds:>9.1f}")
    broken = [f"{outcome.tier}: {name}" for outcome in outcomes for name in outcome.broken]
    more = [f"and {len(broken) - NAMED} more"] if len(broken) > NAMED else []
    for line in (*problems(outcomes), *broken[:NAMED], *more):
        print(f"✘ {line}")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)


def read_tiers(named: Sequence[str]) -> list[str]:
    """The tiers asked for, in their order: arguments, else MILLPOND_TIERS, else all."""
    wanted = list(named) or os.environ.get("MILLPOND_TIERS", "").replace(",", " ").split() or list(TIERS)
    if unknown := [tier for tier in wanted if tier not in TIERS]:
        sys.exit(f"no tier {', '.join(unknown)}: there are {', '.join(TIERS)}")
    return [tier for tier in TIERS if tier in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every tier ran, passed and skipped nothing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiers", nargs="*", metavar="tier", help=f"{', '.join(TIERS)} (default: all)")
    tiers = read_tiers(parser.parse_args(given[:cut]).tiers)
    extra = given[cut + 1 :]
    with passing_signals():
        outcomes = [outcome for stage in STAGES for outcome in run_stage(stage, tiers, extra)]
    print_table(outcomes)
    return 1 if problems(outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
