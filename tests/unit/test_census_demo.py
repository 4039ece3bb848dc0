"""The demo's verdict: each promise that is broken is named, and a demo in which all was well passes."""

import sys
from typing import Any

import pytest

from tests.unit.test_census_files import EXAMPLE

sys.path.insert(0, str(EXAMPLE))
import demo_figures  # beside the demo, which is a script and no package

REPORT = {"files": 2, "parsed": 1}


def make_task(name: str, phase: str = "Succeeded", **status: Any) -> Any:
    times = {"queuedAt": "2026-01-01T00:00:00.500Z", "finishedAt": "2026-01-01T00:00:10.500Z"}
    return {"metadata": {"name": name}, "spec": {}, "status": {"phase": phase, **times, **status}}


FAILED = make_task("bad", "Failed", error={"type": "Unparsable", "message": "x.py:1: SyntaxError: no"})


def make_worker(state: str, steps: list[str], in_flight: int = 0) -> Any:
    transitions = [{"state": step} for step in steps]
    return {"metadata": {"name": "w"}, "status": {"state": state, "transitions": transitions, "inFlight": in_flight}}


def make_figures(tasks: list[Any], workers: list[Any] | None = None, files: int = 2) -> Any:
    seen = demo_figures.Seen()
    seen.look([{"status": {"readyReplicas": 3, "decisions": []}}], workers or [])
    return demo_figures.make_figures(files, tasks, 12.0, seen)


def test_demo_in_which_all_was_well_passes() -> None:
    stopped = make_worker("Stopped", ["Starting", "Idle", "Busy", "Idle", "Draining", "Stopped"])
    figures = make_figures([make_task("good"), FAILED], [stopped])
    assert demo_figures.broken_promises(figures, REPORT, 0) == []
    assert figures.failures == ["bad: Unparsable: x.py:1: SyntaxError: no"]
    assert (figures.peak_workers, figures.drain_seconds) == (3, 10.0)


CLAIMED = {"phase": "Running"}
RELEASED = [CLAIMED, {"phase": "Queued", "reason": "Released"}, CLAIMED, {"phase": "Succeeded"}]


@pytest.mark.parametrize(
    ("tasks", "workers", "left", "says"),
    [
        ([FAILED], [], 0, "some are missing"),
        ([make_task("t", "Running"), FAILED], [], 0, "have not ended"),
        ([make_task("t", "Cancelled"), FAILED], [], 0, "nobody asked for"),
        ([make_task("good"), make_task("t", "Failed")], [], 0, "without a reason"),
        ([make_task("good"), make_task("t", "Failed", error={"type": "OSError"})], [], 0, "another reason"),
        ([make_task("a"), make_task("b")], [], 0, "the report counts"),
        ([make_task("good"), FAILED], [make_worker("Stopped", ["Idle", "Busy", "Stopped"])], 0, "while busy"),
        ([make_task("good"), FAILED], [make_worker("Failed", ["Idle", "Failed"], in_flight=1)], 0, "while busy"),
        ([make_task("good", transitions=RELEASED), FAILED], [], 0, "interrupted"),
        ([make_task("good"), FAILED], [], 2, "are left"),
    ],
)
def test_each_broken_promise_is_named(tasks: list[Any], workers: list[Any], left: int, says: str) -> None:
    broken = demo_figures.broken_promises(make_figures(tasks, workers), REPORT, left)
    assert any(says in sentence for sentence in broken), broken


def test_busy_worker_that_was_stopped_counts_even_when_its_object_is_gone_by_the_end() -> None:
    seen = demo_figures.Seen()
    seen.look([], [make_worker("Stopped", ["Busy", "Stopped"])])
    seen.look([], [])
    assert demo_figures.make_figures(0, [], None, seen).busy_stopped == ["w"]


def test_retry_after_an_error_is_no_interruption() -> None:
    steps = [{"phase": p} for p in ("Queued", "Running", "Backoff", "Running", "Succeeded")]
    assert not demo_figures.was_interrupted(make_task("t", transitions=steps))


def test_wake_is_the_operators_figure_or_else_the_difference_of_its_own_times() -> None:
    first = make_task("census-files")
    scaled = {"at": "2026-01-01T00:00:00.620Z", "from": 0, "to": 1}
    later = {"at": "2026-01-01T00:00:09Z", "from": 0, "to": 3, "inputs": {"wakeDelayMs": 999}}
    assert demo_figures.wake_ms(first, [later, scaled]) == pytest.approx(120)
    assert demo_figures.wake_ms(first, [later, {**scaled, "inputs": {"wakeDelayMs": 80.5}}]) == 80.5
    assert demo_figures.wake_ms(first, []) is None


def test_long_listings_are_cut_and_counted_by_kind() -> None:
    text = "NAME\npool\n\nNAME\nt1\nt2\nt3\n"
    assert demo_figures.head_of_sections(text, 1) == "NAME\npool\n\nNAME\nt1\n… and 2 more"
