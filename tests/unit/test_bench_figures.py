"""Benchmarks count what happened: percentiles by rank, interrupted runs and busy workers from the tasks' logs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api.events import TaskEvent

from bench.figures import Round, format_time, make_table, percentile, spread
from bench.report import PAGE, RESULTS, make_page
from bench.verdict import judge
from bench.watches import Departures, Replicas

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float) -> datetime:
    return BEGIN + timedelta(seconds=second)


def log(*steps: tuple[float, str, int, str]) -> list[TaskEvent]:
    """Events from (second, state, attempt, worker)."""
    return [
        TaskEvent(state=state, attempt=attempt, at=at(when), worker=worker) for when, state, attempt, worker in steps
    ]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_measured_value_that_enough_of_them_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_of_few_rounds_the_slowest_is_the_99th_percentile() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 0.5)


def test_a_round_that_never_came_is_counted_and_not_averaged_away() -> None:
    rounds = [Round(setup="a", scenario="b", seconds=value, patches=2) for value in (1.0, None, 3.0)]
    found = spread(rounds)
    assert (found.rounds, found.missed, found.p50, found.slowest, found.patches) == (3, 1, 1.0, 3.0, 2)
    assert spread(rounds[1:2]).p50 is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0421, "42 ms"), (1.2, "1.20 s"), (38.44, "38.4 s"), (None, "–")], ids=str
)
def test_times_read_well(seconds: float | None, text: str) -> None:
    assert format_time(seconds) == text


def test_a_table_has_as_many_cells_in_every_line() -> None:
    lines = make_table(["a", "long header"], [["1", "2"], ["three", "4"]]).splitlines()
    assert {line.count("|") for line in lines} == {3}
    assert len({len(line) for line in lines}) == 1


def test_a_run_that_ended_before_its_worker_went_is_no_interruption() -> None:
    logs = {"t": log((1, "Running", 1, "w"), (3, "Succeeded", 1, "w"))}
    found = judge(["t"], logs, {"w": at(4)})
    assert (found.succeeded, found.interrupted, found.stopped, found.stopped_busy, found.lost) == (1, 0, 1, 0, 0)


def test_a_worker_told_to_go_while_it_runs_counts_as_busy_even_if_it_finishes() -> None:
    logs = {"t": log((1, "Running", 1, "w"), (9, "Succeeded", 1, "w"))}
    found = judge(["t"], logs, {"w": at(4)})
    assert (found.stopped_busy, found.interrupted, found.wasted_seconds) == (1, 0, 0)
    assert found.told == ["w was told to go at 00:00:04.000000; it ran a task from 00:00:01.000000 to 00:00:09.000000"]


def test_a_worker_that_takes_a_task_after_it_was_told_to_go_counts_as_busy() -> None:
    logs = {"t": log((5, "Running", 1, "w"), (9, "Running", 1, "v"), (10, "Succeeded", 1, "v"))}
    found = judge(["t"], logs, {"w": at(4)})
    assert (found.stopped_busy, found.interrupted) == (1, 1)
    assert found.cut == found.told


@pytest.mark.parametrize("after", ["Queued", "Running"])
def test_a_run_that_was_cut_off_is_counted_with_the_work_that_it_wasted(after: str) -> None:
    logs = {"t": log((1, "Running", 1, "w"), (6, after, 1, "v"), (7, "Running", 1, "v"), (8, "Succeeded", 1, "v"))}
    found = judge(["t"], logs, {"w": at(4)})
    assert found.interrupted == (2 if after == "Running" else 1)
    assert found.wasted_seconds >= 5
    assert found.stopped_busy == 1


def test_a_retry_is_no_interruption() -> None:
    logs = {"t": log((1, "Running", 1, "w"), (2, "Backoff", 1, "w"), (3, "Running", 2, "w"), (4, "Succeeded", 2, "w"))}
    assert judge(["t"], logs, {}).interrupted == 0
    later = {"t": log((1, "Running", 1, "w"), (3, "Running", 2, "w"), (4, "Succeeded", 2, "w"))}
    assert judge(["t"], later, {}).interrupted == 0, "its Backoff is older than the log goes back"


def test_a_task_that_failed_is_neither_lost_nor_succeeded_and_tells_why() -> None:
    logs = {"t": [TaskEvent(state="Running", at=at(1)), TaskEvent(state="Failed", at=at(2), reason="Poison")]}
    found = judge(["t"], logs, {})
    assert (found.failed, found.lost, found.succeeded) == ({"Poison": 1}, 0, 0)


def test_a_task_without_an_outcome_is_lost_and_one_with_two_is_told() -> None:
    logs = {
        "open": log((1, "Running", 1, "w")),
        "twice": log((1, "Running", 1, "w"), (2, "Succeeded", 1, "w"), (3, "Succeeded", 1, "v")),
    }
    found = judge(["open", "twice", "never"], logs, {})
    assert (found.tasks, found.lost, found.two_outcomes, found.succeeded) == (3, 2, 1, 1)
    assert judge(["open", "twice", "never"], logs, {}, waiting=1).lost == 1, "the queue holds one: it is not lost"


def deployment(name: str, replicas: int, target: str = "t") -> dict[str, object]:
    return {"metadata": {"name": name, "labels": {"l": target}}, "spec": {"replicas": replicas}}


def test_each_patch_of_a_target_is_counted_once_over_all_its_versions() -> None:
    seen = Replicas("l")
    seen.see("ADDED", deployment("a", 0))
    mark = seen.mark("t")
    for body in (
        deployment("a", 2),
        deployment("a", 2),
        deployment("b", 0),
        deployment("b", 3),
        deployment("x", 9, "o"),
    ):
        seen.see("MODIFIED", body)
    reached = seen.reach("t", 5, mark, timeout=0)
    assert reached is not None
    assert reached[1] == 2
    assert seen.reach("t", 7, mark, timeout=0) is None
    seen.see("DELETED", deployment("a", 2))
    assert seen.now("t") == 3


def test_a_pod_departs_when_its_deletion_is_first_seen() -> None:
    seen = Departures()
    seen.see("MODIFIED", {"metadata": {"name": "p"}})
    assert not seen.moments
    seen.see("MODIFIED", {"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:30Z"}})
    first = seen.moments["p"]
    seen.see("DELETED", {"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:30Z"}})
    assert seen.moments == {"p": first}


def test_the_page_of_benchmarks_is_what_its_results_say() -> None:
    ours = PAGE.read_text(encoding="utf-8").partition("<!-- bench:scale -->")[0]
    assert ours.rstrip() == make_page(RESULTS).rstrip(), "run `python -m bench.report` and commit"
