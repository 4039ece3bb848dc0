"""What a person types becomes the Task that they meant, or a sentence; never a different task."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_cli.errors import CliError
from millpond_cli.manifests import (
    NAME_LENGTH,
    Naming,
    Work,
    batch_names,
    make_batch,
    make_task,
    parse_argument,
    parse_kwargs,
    parse_lines,
    parse_moment,
    slug,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("true", True),
        ("null", None),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("ast.py", "ast.py"),
        ("NaN", "NaN"),
        ("", ""),
        ("{broken", "{broken"),
    ],
)
def test_argument_is_json_or_else_itself(text: str, value: Any) -> None:
    assert parse_argument(text) == value


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", '[{"a": 123456789012345678901}]'])
def test_integer_that_kubernetes_would_round_is_refused(text: str) -> None:
    assert parse_argument(str(2**63 - 1)) == 2**63 - 1
    with pytest.raises(CliError, match="64 bits"):
        parse_argument(text)


def test_kwargs_keep_what_follows_the_first_equals_sign() -> None:
    assert parse_kwargs(["depth=3", "query=a=b", "empty="]) == {"depth": 3, "query": "a=b", "empty": ""}


@pytest.mark.parametrize("pairs", [["depth"], ["=3"], ["two words=1"], ["a=1", "a=2"]])
def test_wrong_kwarg_is_refused_and_named(pairs: list[str]) -> None:
    with pytest.raises(CliError, match="--kwarg"):
        parse_kwargs(pairs)


def test_lines_are_arrays_of_arguments_or_one_text_each() -> None:
    lines = ["ast.py", "", '[1, {"a": 2}]', "  {not an array}  ", "3"]
    assert parse_lines(lines) == [["ast.py"], [1, {"a": 2}], ["{not an array}"], ["3"]]


def test_broken_array_is_refused_with_its_line() -> None:
    with pytest.raises(CliError, match="line 2"):
        parse_lines(["fine", "[1, 2"])


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30s", "2026-01-02T03:04:35.000000Z"),
        ("1h30m", "2026-01-02T04:34:05.000000Z"),
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z"),
    ],
)
def test_delay_and_deadline_become_times(text: str, moment: str) -> None:
    assert parse_moment(text, "--delay", NOW) == moment


@pytest.mark.parametrize("text", ["soon", "30", "2030-01-31T12:00:00", "2030-13-01"])
def test_wrong_time_is_refused_and_its_option_named(text: str) -> None:
    with pytest.raises(CliError, match="--deadline"):
        parse_moment(text, "--deadline", NOW)


def test_task_holds_only_what_was_given() -> None:
    task = make_task(Work("census", "census.parse"), [], Naming())
    assert task["spec"] == {"pool": "census", "handler": "census.parse"}
    assert task["metadata"] == {"generateName": "census-parse-"}


def test_batch_keeps_falsy_arguments() -> None:
    tasks = make_batch(Work("p", "h"), [[0], [""], [False]], Naming())
    assert [task["spec"]["args"] for task in tasks] == [[0], [""], [False]]


def test_names_with_the_same_slug_stay_distinct_and_stable() -> None:
    batch: list[list[Any]] = [["a/b.py"], ["a-b.py"], ["c.py"]]
    names = batch_names("parse", batch)
    assert names[0] == "parse-a-b-py"
    assert names[2] == "parse-c-py"
    assert len(set(names)) == 3
    assert batch_names("parse", batch) == names


def test_same_arguments_twice_under_one_name_are_refused() -> None:
    with pytest.raises(CliError, match="same arguments"):
        batch_names("parse", [["a"], ["b"], ["a"]])


@given(st.lists(st.lists(st.one_of(st.text(), st.integers(), st.booleans()), max_size=3), max_size=20, unique_by=repr))
def test_names_of_a_batch_are_valid_and_distinct(batch: list[list[Any]]) -> None:
    names = batch_names("n", batch)
    assert len(set(names)) == len(batch)
    for name in names:
        assert all(c.isascii() and (c.isalnum() or c == "-") for c in name)
        assert not name.endswith("-")
        assert len(name) <= NAME_LENGTH + 12


def test_long_texts_with_a_common_end_have_different_slugs() -> None:
    assert slug("x" + "a" * 300) != slug("y" + "a" * 300)
    assert len(slug("x" * 500)) <= NAME_LENGTH
