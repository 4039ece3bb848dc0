"""What the command shows of a task's progress, from the statuses of workers."""

from typing import Any

import pytest
from millpond_api.percent import parse_percent
from millpond_cli.following import Word, find_word


def worker(name: str, *running: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"running": list(running)}}


def test_latest_attempt_speaks_for_the_task() -> None:
    workers = [
        worker("w1", {"task": "t", "attempt": 1, "progress": "90%"}, {"task": "other", "progress": "5%"}),
        worker("w2", {"task": "t", "attempt": 2, "progress": "10% of the corn"}),
        {"metadata": {"name": "w3"}},
    ]
    word = find_word(workers, "t")
    assert word == Word("w2", 2, "10% of the corn")
    assert word.sentence == "10% of the corn (w2, attempt 2)"
    assert find_word(workers, "absent") is None


def test_task_that_says_nothing_is_shown_as_running() -> None:
    word = find_word([worker("w1", {"task": "t"})], "t")
    assert word is not None
    assert word.sentence == "running (w1)"


@pytest.mark.parametrize(
    ("text", "percent"),
    [("40%", 40.0), ("12.5% of it", 12.5), ("250%", 100.0), ("reading a.py", None), ("", None), ("a 40%", None)],
)
def test_only_a_leading_percentage_moves_the_bar(text: str, percent: float | None) -> None:
    assert parse_percent(text) == percent
