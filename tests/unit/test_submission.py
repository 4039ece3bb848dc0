"""What a caller says becomes an envelope, or is refused in his own frame."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from millpond.submission import Options, check_options, make_body, make_submission

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_misspelt_option_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(TypeError, match=r"'dealy'.*deadline, delay"):
        check_options({"dealy": 3})  # type: ignore[typeddict-unknown-key]


def test_shared_options_are_a_plain_dictionary() -> None:
    shared = Options(priority="high", deadline=timedelta(hours=1))
    one = make_submission("a", "h", make_body([1], None), shared, NOW).envelope
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
    assert make_submission("a", "h", b"{}", options, NOW).at == at


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
        make_submission("a", "h", b"{}", options, NOW)
