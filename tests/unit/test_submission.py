"""What a caller says becomes an envelope, or is refused in his own frame."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond.packing import Packed
from millpond.submission import (
    BATCH_BYTES,
    BATCH_TASKS,
    Options,
    Submission,
    check_options,
    make_batches,
    make_submission,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ARGUMENTS = Packed(b'{"args":[1]}')


def test_misspelt_option_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(TypeError, match=r"'dealy'.*deadline, delay"):
        check_options({"dealy": 3})  # type: ignore[typeddict-unknown-key]


def test_shared_options_are_a_plain_dictionary() -> None:
    shared = Options(priority="high", deadline=timedelta(hours=1))
    one = make_submission("a", "h", ARGUMENTS, shared, NOW).envelope
    assert (one.task_class, one.deadline) == ("high", NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"not_before": NOW + timedelta(seconds=5)}, NOW + timedelta(seconds=5)),
        ({"not_before": NOW - timedelta(seconds=5)}, None),
        ({"delay": 0}, None),
        ({"delay": 2}, NOW + timedelta(seconds=2)),
    ],
    ids=["later", "past", "no-delay", "delay"],
)
def test_start_is_a_moment_only_when_it_lies_ahead(options: Any, at: datetime | None) -> None:
    assert make_submission("a", "h", ARGUMENTS, options, NOW).at == at


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"not_before": datetime(2100, 1, 1)}, "no time zone"),  # noqa: DTZ001
        ({"not_before": NOW, "delay": 1}, "not both"),
    ],
    ids=["naive", "both"],
)
def test_start_that_cannot_be_is_refused(options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_submission("a", "h", ARGUMENTS, options, NOW)


def sized(number: int, size: int, *, delayed: bool = False) -> Submission:
    return make_submission(str(number), "h", Packed(b"x" * size), Options(delay=5) if delayed else Options(), NOW)


@given(st.lists(st.tuples(st.integers(0, BATCH_BYTES // 3), st.booleans()), max_size=30), st.integers(0, 1200))
def test_batches_keep_order_and_the_servers_bounds(sizes: list[tuple[int, bool]], small: int) -> None:
    body = b"x" * (BATCH_BYTES // 3)
    template = {delayed: sized(0, 0, delayed=delayed) for delayed in (True, False)}
    given_ones = [replace(template[delayed], body=body[:size]) for size, delayed in sizes]
    given_ones += [template[False]] * small
    batches = make_batches(given_ones)
    assert [id(one) for batch in batches for one in batch] == [id(one) for one in given_ones]
    for batch in batches:
        assert 1 <= len(batch) <= BATCH_TASKS
        assert sum(len(one.body) for one in batch) <= BATCH_BYTES
        assert len({one.at is None for one in batch}) == 1
