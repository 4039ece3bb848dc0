"""Check everything that needs no server: `python scripts/verify.py [STEP …]`.

Owns the list of checks and how they are reported: all of them run, side by side where they don't disturb each other, a
line each, and what a failed one printed. It must not fix anything (`make format`, `make generate` do). A check that
cannot be started has failed.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from generate import GENERATED

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PACKAGES = ("millpond_api", "millpond_operator", "millpond", "millpond_cli", "millpond_cluster", "bench")


@dataclass(frozen=True)
class Check:
    """One command that must succeed."""

    name: str
    command: tuple[str, ...]
    hint: str


@dataclass(frozen=True)
class Result:
    """How it went."""

    check: Check
    code: int
    seconds: float
    output: str


def make_checks() -> tuple[Check, ...]:
    """The slowest first: with two at a time that is the shortest way through."""
    python = sys.executable
    types = tuple(word for package in PACKAGES for word in ("-p", package))
    kept = tuple(path for path in GENERATED if (ROOT / path).exists())
    return (
        Check("types", (python, "-m", "mypy", *types), "mypy's lines name the place"),
        Check("chart", (python, "scripts/helm.py", "verify"), "see charts/millpond"),
        Check(
            "layers", (str(BIN / "lint-imports"), "--no-cache"), "imports point one way: contracts in pyproject.toml"
        ),
        Check("generated", (python, "scripts/generate.py", "--check"), "run `make generate` and commit"),
        Check("committed", ("git", "diff", "--exit-code", "--stat", "HEAD", "--", *kept), "commit the generated files"),
        Check("format", (str(BIN / "ruff"), "format", "--check", "."), "run `make format`"),
        Check("lint", (str(BIN / "ruff"), "check", "."), "`make format` fixes some"),
    )


def run_check(check: Check) -> Result:
    """Run it to the end, whatever it does."""
    began = time.monotonic()
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    try:
        done = subprocess.run(
            check.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        code, output = done.returncode, done.stdout + done.stderr
    except OSError as error:
        code, output = 127, f"{check.command[0]} cannot be started: {error}; run `make setup`"
    return Result(check, code, time.monotonic() - began, output.strip())


def report(result: Result) -> None:
    """✓ or ✘, the seconds, and what a failed check printed."""
    sign = "✘" if result.code else "✓"
    print(f"{sign} {result.check.name:<10} {result.seconds:6.1f} s", flush=True)
    if result.code:
        print("\n".join(f"    {line}" for line in [*result.output.splitlines(), f"→ {result.check.hint}"]), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every check passed."""
    checks = {check.name: check for check in make_checks()}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="*", help=f"{', '.join(checks)} (default: all)")
    wanted = parser.parse_args(arguments).steps or list(checks)
    if unknown := [name for name in wanted if name not in checks]:
        parser.error(f"no step {', '.join(unknown)}: there are {', '.join(checks)}")
    failed = []
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for done in as_completed([pool.submit(run_check, checks[name]) for name in wanted]):
            result = done.result()
            report(result)
            if result.code:
                failed.append(result.check.name)
    print(
        f"{len(wanted) - len(failed)} of {len(wanted)} checks passed" + (f": {', '.join(failed)} failed" * bool(failed))
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
