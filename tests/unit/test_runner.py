"""The runner of the tiers counts honestly: nothing that did not run, failed or was skipped passes as a success."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run import Outcome, add_up, main, problems, read_report, read_tiers
from tests.support.eventually import eventually_sync

ROOT = Path(__file__).parents[2]


def report(tmp_path: Path, **counts: int) -> Path:
    file = tmp_path / "report.xml"
    attributes = " ".join(f'{name}="{count}"' for name, count in counts.items())
    file.write_text(f"<testsuites><testsuite {attributes}/></testsuites>")
    return file


@pytest.mark.parametrize(
    ("counts", "code", "expected"),
    [
        pytest.param({"tests": 5, "failures": 0, "errors": 0, "skipped": 0}, 0, (5, 0, 0), id="all passed"),
        pytest.param({"tests": 5, "failures": 1, "errors": 1, "skipped": 1}, 1, (2, 2, 1), id="some of each"),
        pytest.param({"tests": 5, "failures": 0, "errors": 0, "skipped": 0}, 2, (5, 1, 0), id="interrupted"),
        pytest.param({"tests": 0, "failures": 0, "errors": 0, "skipped": 0}, 5, (0, 0, 0), id="none collected"),
        pytest.param({"tests": 3, "failures": 0, "errors": 0, "skipped": 0}, 1, (3, 1, 0), id="unexplained failure"),
    ],
)
def test_the_counts_of_a_report(tmp_path: Path, counts: dict[str, int], code: int, expected: tuple[int, ...]) -> None:
    outcome = read_report("unit", report(tmp_path, **counts), code, 1.0)
    assert (outcome.passed, outcome.failed, outcome.skipped) == expected


def test_a_failure_in_one_pass_of_a_tier_is_not_lost_in_the_sum() -> None:
    first, last = Outcome("system", 3, 1, 0, 2.0, "died", ("a",)), Outcome("system", 4, 0, 2, 1.0)
    assert add_up("system", [first, last]) == Outcome("system", 7, 1, 2, 3.0, "died", ("a",))


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        pytest.param(Outcome("unit", 3, 1, 0, 1.0), "1 failed", id="a failure"),
        pytest.param(Outcome("unit", 0, 0, 0, 1.0), "no test ran", id="nothing ran"),
        pytest.param(Outcome("unit", 3, 0, 2, 1.0), "2 skipped", id="skipped"),
    ],
)
def test_what_is_no_success_is_said(outcome: Outcome, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILLPOND_ALLOW_SKIPS", raising=False)
    (problem,) = problems([Outcome("broker", 9, 0, 0, 1.0), outcome])
    assert word in problem


def test_tiers_come_from_arguments_then_from_the_environment_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_TIERS", "system, unit")
    assert read_tiers([]) == ["unit", "system"]
    assert read_tiers(["broker"]) == ["broker"]
    monkeypatch.delenv("MILLPOND_TIERS")
    assert read_tiers([]) == ["unit", "broker", "cluster", "system"]


def test_an_unknown_tier_is_refused() -> None:
    with pytest.raises(SystemExit, match="no tier unti"):
        main(["unti"])


def test_a_real_run_ends_with_the_plain_line_and_an_exit_code_that_tells_the_failure(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "def test_a(): pass\ndef test_b(): assert False\n")
    assert done.stdout.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"
    assert done.returncode == 1


def test_the_end_of_a_run_names_what_failed_and_why(tmp_path: Path) -> None:
    """The end of a log is what is left of it when it was cut."""
    done = run_tests(
        tmp_path,
        "import pytest\n"
        "@pytest.fixture\ndef port(): raise OSError('in use')\n"
        "def test_a(port): pass\n"
        "@pytest.mark.parametrize('side', ['left'])\n"
        "def test_b(side): assert side == 'right', 'x' * 300 + '\\nsecond line'\n",
    )
    setup, call, end = done.stdout.splitlines()[-3:]
    assert setup.startswith("✘ unit: tests/unit/test_one.py::test_a: ")
    assert setup.endswith('OSError: in use"')
    message = f"AssertionError: {'x' * 300}"[:200]
    assert call == f"✘ unit: tests/unit/test_one.py::test_b[left]: {message}"
    assert end == "0 passed, 2 failed, 0 skipped"


def test_of_many_failures_ten_are_named_and_the_others_counted(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "import pytest\n@pytest.mark.parametrize('n', range(12))\ndef test_a(n): assert not 1\n")
    *named, more, _ = done.stdout.splitlines()[-12:]
    assert named == [f"✘ unit: tests/unit/test_one.py::test_a[{n}]: assert not 1" for n in range(10)]
    assert more == "✘ and 2 more"


def test_a_run_without_a_test_fails(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "")
    assert done.stdout.splitlines()[-1] == "0 passed, 0 failed, 0 skipped"
    assert done.returncode == 1


def test_sigterm_reaches_the_fixtures_of_the_running_tier(tmp_path: Path) -> None:
    """What a test run has started is taken down when the run is stopped."""
    make_tree(
        tmp_path,
        "import pathlib, pytest, time\n"
        "here = pathlib.Path(__file__).parent\n"
        "@pytest.fixture\n"
        "def server():\n    (here / 'up').touch()\n    yield\n    (here / 'down').touch()\n"
        "def test_long(server):\n    time.sleep(60)\n",
    )
    run = subprocess.Popen([sys.executable, "tests/run.py", "unit"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    eventually_sync((tmp_path / "tests" / "unit" / "up").exists, 60, "the running test")
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait(timeout=60) == 1
    assert (tmp_path / "tests" / "unit" / "down").exists()


def run_tests(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    make_tree(directory, text)
    command = [sys.executable, "tests/run.py", "unit"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=120)


def make_tree(directory: Path, text: str) -> None:
    """A project of one test file with our runner."""
    (directory / "tests" / "unit").mkdir(parents=True)
    (directory / "tests" / "run.py").write_text((ROOT / "tests" / "run.py").read_text())
    (directory / "tests" / "unit" / "test_one.py").write_text(text)
