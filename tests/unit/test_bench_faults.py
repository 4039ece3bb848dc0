"""The judge of the fault runs: each way to break a guarantee is seen, and a duplicate is none of them."""

from datetime import UTC, datetime

import pytest
from millpond_api.events import TaskEvent

from bench.faults.faults import has_heirs, shares
from bench.faults.judge import Case, Verdict, judge, make_fault_table, parse_record

AT = datetime(2030, 1, 1, tzinfo=UTC)
ONE_RUN = ["begin t 1 w1 token-1", "end token-1"]


def log(*steps: str) -> list[TaskEvent]:
    """Steps as `State(attempt)@worker=result`."""
    events = []
    for step in steps:
        state, _, rest = step.partition("(")
        attempt, _, rest = rest.partition(")@")
        worker, _, result = rest.partition("=")
        events.append(TaskEvent(state=state, attempt=int(attempt), worker=worker, at=AT, result=result or None))
    return events


def verdict(events: list[TaskEvent], record: list[str], received: object = "token-1", left: int = 0) -> Verdict:
    case = Case("a fault", ["t"], {"t": events}, {"t": received}, left, strikes=1)
    return judge(case, parse_record(line.split() for line in record))


def broken(found: Verdict) -> dict[str, int]:
    """The counts that are not 0, of those that must be."""
    counts = found.model_dump(include={"lost", "stale", "two_outcomes", "failed", "left"})
    return {name: count for name, count in counts.items() if count}


def test_a_task_that_ran_once_breaks_nothing() -> None:
    found = verdict(log("Running(1)@w1", "Succeeded(1)@w1=token-1"), ONE_RUN)
    assert found.held
    assert (found.began_again, found.ended_again, found.tasks) == (0, 0, 1)


def test_a_task_that_ran_twice_with_the_heirs_outcome_is_a_duplicate_and_breaks_nothing() -> None:
    record = ["begin t 1 zombie token-0", "begin t 1 heir token-1", "end token-1", "end token-0"]
    found = verdict(log("Running(1)@zombie", "Running(1)@heir", "Succeeded(1)@heir=token-1"), record)
    assert found.held
    assert (found.began_again, found.ended_again) == (1, 1)


def test_a_second_attempt_is_no_duplicate() -> None:
    record = ["begin t 1 w1 token-0", "fault w1 killed", "begin t 2 w1 token-1", "end token-1"]
    steps = ("Running(1)@w1", "Backoff(1)@w1", "Running(2)@w1", "Succeeded(2)@w1=token-1")
    found = verdict(log(*steps), record)
    assert found.held
    assert (found.began_again, found.strikes) == (0, 2)


@pytest.mark.parametrize(
    ("steps", "record", "received", "seen"),
    [
        pytest.param((), [], None, {"lost": 1}, id="never claimed"),
        pytest.param(("Running(1)@w1",), ONE_RUN, None, {"lost": 1}, id="no outcome"),
        pytest.param(
            ("Running(1)@zombie", "Running(1)@heir", "Succeeded(1)@zombie=token-0"),
            ["begin t 1 zombie token-0", "begin t 1 heir token-1", "end token-0"],
            "token-0",
            {"stale": 1},
            id="the zombie's outcome",
        ),
        pytest.param(
            ("Running(1)@w1", "Running(1)@w1", "Succeeded(1)@w1=token-0"),
            ["begin t 1 w1 token-0", "begin t 1 w1 token-1"],
            "token-0",
            {"stale": 1},
            id="the same worker's earlier run",
        ),
        pytest.param(
            ("Running(1)@w1", "Succeeded(1)@w1=token-0"), ONE_RUN, "token-1", {"stale": 1}, id="the log has another"
        ),
        pytest.param(
            ("Running(1)@w1", "Succeeded(1)@w1=token-1"),
            ONE_RUN,
            "other",
            {"stale": 1},
            id="the client got another",
        ),
        pytest.param(("Running(1)@w1", "Succeeded(1)@w1=token-1"), [], "token-1", {"stale": 1}, id="nobody ran it"),
        pytest.param(
            ("Running(1)@w1", "Succeeded(1)@w1=token-1", "Succeeded(1)@w2=token-2"),
            ONE_RUN,
            "token-1",
            {"two_outcomes": 1},
            id="two outcomes",
        ),
        pytest.param(("Running(1)@w1", "Failed(1)@w1"), ONE_RUN, None, {"failed": 1}, id="failed"),
    ],
)
def test_each_broken_guarantee_is_seen(
    steps: tuple[str, ...], record: list[str], received: object, seen: dict[str, int]
) -> None:
    found = verdict(log(*steps), record, received)
    assert broken(found) == seen
    assert not found.held


def test_a_message_that_is_left_and_a_fault_that_was_not_done_are_seen() -> None:
    good = log("Running(1)@w1", "Succeeded(1)@w1=token-1")
    assert broken(verdict(good, ONE_RUN, left=1)) == {"left": 1}
    case = Case("a fault", ["t"], {"t": good}, {"t": "token-1"}, 0, strikes=0)
    assert not judge(case, parse_record(line.split() for line in ONE_RUN)).held


def test_the_table_has_a_row_for_each_fault() -> None:
    table = make_fault_table([verdict(log("Running(1)@w1", "Succeeded(1)@w1=token-1"), ONE_RUN)]).splitlines()
    assert len(table) == 3
    assert [cell.strip() for cell in table[2].strip("|").split("|")] == ["a fault", "1", "1", *["0"] * 7]


def test_shares_add_up_and_none_is_empty() -> None:
    assert shares(1000, 7) == [142, 143, 143, 143, 143, 143, 143]
    assert shares(2, 5) == [1, 1]


def test_an_heir_is_a_second_worker_of_the_victims_own_task() -> None:
    assert not has_heirs({"a"}, [("a", "w1"), ("a", "w1"), ("b", "w1"), ("b", "w2")])
    assert has_heirs({"a"}, [("a", "w1"), ("a", "w2")])


def test_the_table_has_redeliveries_only_where_every_row_knows_them() -> None:
    known = verdict(log("Running(1)@w1", "Succeeded(1)@w1=token-1"), ONE_RUN).model_copy(update={"redelivered": 3})
    unknown = known.model_copy(update={"redelivered": None})
    assert make_fault_table([known]).splitlines()[0].endswith("| delivered again |")
    assert make_fault_table([known]).splitlines()[2].endswith("| 3               |")
    assert "delivered again" not in make_fault_table([known, unknown])
