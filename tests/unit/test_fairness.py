"""The lane of a key: its own two, the emptier one, and never a third."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api import subjects
from millpond_api.envelope import Envelope, parse_envelope
from millpond_api.events import utc_now
from millpond_api.fairness import CROWD, LaneChoices, lane_pair, read_counts

KEYS = st.text(min_size=1, max_size=20)


@given(KEYS, st.integers(2, 900))
def test_a_key_has_two_lanes_that_are_tokens(key: str, lanes: int) -> None:
    first, second = lane_pair(key, lanes)
    assert first != second
    assert all(int(lane, 16) < lanes for lane in (first, second))
    assert subjects.parse_tasks(subjects.tasks("ns", "p", "default", first)) == ("default", first)
    assert subjects.parse_consumer(subjects.consumer("a-b_c", second)) == ("a-b_c", second)


@given(KEYS, st.lists(st.dictionaries(st.integers(0, 15), st.integers(0, 100_000)), max_size=8))
def test_whatever_is_seen_a_key_stays_in_its_two_lanes(key: str, views: list[dict[int, int]]) -> None:
    choices = LaneChoices()
    for view in views:
        choices.saw("p", {("c", f"{lane:x}"): count for lane, count in view.items()}, 0.0)
        assert choices.choose("p", "c", key, 16) in lane_pair(key, 16)


def test_a_key_avoids_the_crowd_of_another_and_a_crowd_of_its_own_stays_together() -> None:
    choices = LaneChoices()
    first, second = lane_pair("light", 128)
    choices.saw("p", {("c", first): 1_000_000}, 0.0)
    assert choices.choose("p", "c", "light", 128) == second
    heavy = {choices.choose("p", "c", "heavy", 128) for _ in range(1000)}
    assert len(heavy) == 1
    choices.saw("p", {("c", *heavy): 900}, 1.0)
    assert choices.choose("p", "c", "heavy", 128) in heavy


def test_a_key_that_a_crowd_has_joined_moves_and_a_few_do_not_move_it() -> None:
    choices = LaneChoices()
    first, second = lane_pair("light", 128)
    assert choices.choose("p", "c", "light", 128) == first
    choices.saw("p", {("c", first): CROWD}, 1.0)
    assert choices.choose("p", "c", "light", 128) == first
    choices.saw("p", {("c", first): 100}, 2.0)
    assert choices.choose("p", "c", "light", 128) == second


def test_a_look_is_wanted_once_a_second() -> None:
    choices = LaneChoices()
    assert choices.needs_look("p", 0.0)
    choices.saw("p", {}, 0.0)
    assert not choices.needs_look("p", 0.9)
    assert choices.needs_look("p", 1.0)


def test_subjects_of_strangers_are_left_out_of_a_look() -> None:
    state = {"subjects": {"mp.tasks.n.p.c": 1, "mp.tasks.n.p.c.1f": 2, "mp.tasks.n.p.c.1.2": 3}}
    assert read_counts({"state": state}) == {("c", ""): 1, ("c", "1f"): 2}
    assert read_counts({}) == {}


@given(KEYS)
def test_any_key_travels_in_a_header(key: str) -> None:
    header = Envelope(id="t", handler="h", enqueued=utc_now(), fair=key, lane="1f").encode().decode("ascii")
    assert parse_envelope(header).fair == key


@pytest.mark.parametrize("name", ["class-", "lane-1", "other", ""])
def test_other_consumers_have_no_class(name: str) -> None:
    assert subjects.parse_consumer(name) in (None, ("", ""))
