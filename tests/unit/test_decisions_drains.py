"""A drain that takes long names the task, its worker and since when."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from millpond_operator.decisions.drains import Drain, Held, decide_draining

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE = timedelta(seconds=30)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def drain(worker: str, seconds: float, *runs: Held) -> Drain:
    return Drain(worker, ago(seconds), runs)


def test_nobody_drains() -> None:
    fact = decide_draining([], PATIENCE, NOW)
    assert (fact.holds, fact.reason) == (False, "NobodyDrains")


def test_a_drain_within_the_grace_period_is_no_news() -> None:
    fact = decide_draining([drain("w1", 30, Held("t1", "parse", ago(40)))], PATIENCE, NOW)
    assert (fact.holds, fact.reason, fact.message) == (True, "Finishing", "worker w1 finishes what it runs")


def test_a_stalled_drain_names_task_worker_and_since_when() -> None:
    held = drain("w1", 31, Held("t2", "parse", ago(60)), Held("t1", "train", ago(3600)))
    fact = decide_draining([held, drain("w2", 5), drain("w3", 5)], PATIENCE, NOW)
    assert fact.reason == "Stalled"
    assert fact.message == (
        "held by task t1 (train, running since 2026-03-01 11:00:00 UTC) on worker w1, "
        "which drains since 2026-03-01 11:59:29 UTC; 2 more drain"
    )


def test_a_drained_worker_that_nobody_removes_is_named() -> None:
    assert decide_draining([drain("w1", 31)], PATIENCE, NOW).message == "worker w1 is drained and not removed yet"


@given(st.lists(st.integers(0, 100), min_size=1, max_size=5), st.integers(0, 3600))
def test_the_sentence_of_a_stalled_drain_stands_still(seconds: list[int], later: int) -> None:
    """It is written into a status: a sentence that changed every second would be a write every second."""
    drains = [drain(f"w{number}", 31 + age, Held("t", "h", ago(50))) for number, age in enumerate(seconds)]
    then = NOW + timedelta(seconds=later)
    assert decide_draining(drains, PATIENCE, NOW) == decide_draining(drains, PATIENCE, then)
