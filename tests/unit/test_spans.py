"""A span of time means the same wherever a user gives one, and what is none is refused where it was written."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from millpond import App, LetterFilter, Retry, RetryPolicy, Snooze, TaskState, Unique
from millpond.letters import DeadLetter
from millpond.packing import Packed
from millpond.submission import check_options, make_submission
from millpond.waiting import until_room
from millpond_api.events import TaskError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def envelope_with(**options: Any) -> Any:
    return make_submission("a", "h", Packed(b"{}"), check_options(options), NOW).envelope  # type: ignore[arg-type]


def handler_with(**options: Any) -> Any:
    app = App()
    app.task("h", **options)(print)
    return app.handlers.get("h")


READ: dict[str, Callable[[Any], Any]] = {
    "timeout": lambda span: envelope_with(timeout=span).timeout,
    "soft_timeout": lambda span: envelope_with(soft_timeout=span).soft_timeout,
    "deadline": lambda span: (envelope_with(deadline=span).deadline - NOW).total_seconds(),
    "delay": lambda span: (
        (make_submission("a", "h", Packed(b"{}"), {"delay": span}, NOW).at or NOW).timestamp() - NOW.timestamp()
    ),
    "handler timeout": lambda span: handler_with(timeout=span).timeout,
    "handler result_ttl": lambda span: handler_with(result_ttl=span).result_ttl,
    "retry": lambda span: Retry("later", after=span).after,
    "snooze": lambda span: Snooze(span).seconds,
    "period": lambda span: Unique(period=span).seconds,
}
reads = pytest.mark.parametrize("read", READ.values(), ids=READ)


@reads
def test_a_timedelta_and_its_seconds_are_the_same(read: Callable[[Any], Any]) -> None:
    assert read(MINUTE) == read(60) == read(60.0) == 60.0


@reads
@pytest.mark.parametrize("bad", ["10s", -1, math.inf, math.nan, True, [3]], ids=repr)
def test_what_is_no_span_is_refused_with_a_sentence(read: Callable[[Any], Any], bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"must be (seconds|more than 0|0 seconds or more|a finite)"):
        read(bad)


async def test_a_wait_that_is_no_span_is_refused() -> None:
    with pytest.raises(TypeError, match="wait must be seconds"):
        await until_room("10s", list)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retry": 3}, r"RetryPolicy\(max_attempts=3\)"),
        ({"not_before": "tomorrow"}, "datetime with a time zone"),
    ],
    ids=["retry", "not_before"],
)
def test_options_of_another_type_are_refused_with_what_to_write(options: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        envelope_with(**options)


def test_a_handlers_retry_that_is_no_policy_is_refused_at_import() -> None:
    with pytest.raises(TypeError, match=r"handler 'h': retry must be a policy"):
        handler_with(retry=3)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"on_conflict": "skip"}, "ignore, replace, debounce"), ({"states": ["Runing"]}, "'Runing' is none of")],
    ids=["on_conflict", "states"],
)
def test_a_misspelt_word_of_unique_is_refused(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Unique(**given)


def test_states_of_unique_may_be_texts() -> None:
    assert Unique(states=["Running"]).counts(TaskState.RUNNING)
    assert not Unique(states=["Running"]).counts(TaskState.QUEUED)


@pytest.mark.parametrize(("age", "meant"), [(59, True), (61, False)])
def test_ages_of_dead_letters_may_be_seconds(age: float, meant: bool) -> None:
    letter = DeadLetter("t", "p", NOW - timedelta(seconds=age), TaskError(type="E", message=""), None)  # type: ignore[arg-type]
    assert LetterFilter(newer=60).matches(letter, NOW) is meant is LetterFilter(newer=MINUTE).matches(letter, NOW)
    assert LetterFilter(older=60).matches(letter, NOW) is not meant


def test_a_policy_is_still_one() -> None:
    assert envelope_with(retry=RetryPolicy(max_attempts=2)).retry.max_attempts == 2
