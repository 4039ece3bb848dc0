"""Rates and places as pure rules: what may start when, and that no interleaving gives a place twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api.limits import (
    MAKE_UP,
    PACE,
    Due,
    Full,
    Holder,
    PlaceState,
    Rate,
    RateState,
    ask,
    leave_place,
    next_due,
    parse_rate,
    room,
    say_full,
    start_times,
    take_place,
)

rates = st.builds(
    Rate, count=st.integers(1, 1000), seconds=st.sampled_from([1.0, 10.0, 60.0]), burst=st.integers(1, 20)
)
asks = st.lists(
    st.tuples(st.one_of(st.floats(0, 0.3), st.floats(0, 5)), st.integers(1, 30), st.sampled_from([0.0, 0.2, 9.0])),
    min_size=1,
    max_size=40,
)
"""(seconds since the ask before, starts asked for, how long the oldest task has waited): what any workers, in any
order, made of it."""
EXACT = 0.05
"""Epoch seconds as floats are exact to a quarter of a microsecond, 40 sums of them to 1 % of 1,000/s."""


def serve(rate: Rate, asks: list[tuple[float, int, float]]) -> list[float]:
    """Every start that the server's order of these asks leads to."""
    now, due, starts = 1_800_000_000.0, Due(), []
    for pause, count, waited in asks:
        now += pause
        state = ask(due, rate, count, waited=waited)
        starts += start_times(rate, state, now)
        due = next_due(state, now)
    return sorted(starts)


def most_above(starts: list[float], per_second: float) -> float:
    """By how many starts any window is fuller than its length allows at this rate."""
    found = fewest = float("-inf")
    for number, start in enumerate(starts):
        fewest = max(fewest, start * per_second - number)
        found = max(found, number + 1 - start * per_second + fewest)
    return found


@given(rates, asks)
def test_no_window_holds_more_starts_than_rate_burst_and_one_stall_allow(
    rate: Rate, asks: list[tuple[float, int, float]]
) -> None:
    starts = [start - 1_800_000_000.0 for start in serve(rate, asks)]
    assert most_above(starts, 1 / rate.interval) <= rate.burst + MAKE_UP / rate.interval + EXACT
    assert most_above(starts, PACE / rate.interval) <= 1 + (rate.burst - 1) * PACE + EXACT


@given(rates, asks)
def test_a_rest_is_not_made_up_for(rate: Rate, asks: list[tuple[float, int, float]]) -> None:
    starts = [start - 1_800_000_000.0 for start in serve(rate, [(pause, count, 0.0) for pause, count, _ in asks])]
    assert most_above(starts, 1 / rate.interval) <= rate.burst + EXACT


@given(st.integers(20, 1000), st.floats(0.0, 3.0))
def test_a_stall_is_made_up_for_while_tasks_wait(count: int, stall: float) -> None:
    rate = Rate(count=count)
    starts = serve(rate, [(0.0, 1, 9.0), (rate.interval + stall, 12 * count, 9.0)])
    undisturbed = starts[0] + (len(starts) - 1) * rate.interval
    assert starts[-1] <= undisturbed + max(0.0, stall - MAKE_UP) + 2 * rate.interval


def test_an_older_workers_reservation_is_understood() -> None:
    state = RateState.model_validate({"tat": 10.0, "count": 5, "interval": 0.1})
    assert next_due(state, 12.0) == Due(12.5, 0.0)


@given(rates, st.integers(1, 200))
def test_a_rate_that_is_always_asked_for_is_fully_used(rate: Rate, count: int) -> None:
    starts = serve(rate, [(0.0, count, 0.0)])
    late = max(0, count - rate.burst) * rate.interval
    assert starts[-1] - starts[0] == pytest.approx(late, abs=1e-5)


@given(rates, st.floats(0, 100), st.floats(0, 100))
def test_room_is_the_number_of_starts_until_then(rate: Rate, tat: float, until: float) -> None:
    fit = room(rate, tat, until)
    starts = start_times(rate, ask(Due(tat), rate, fit + 1), 0.0)
    assert all(start <= until + 1e-6 for start in starts[:fit])
    assert starts[fit] > until - 1e-6


@pytest.mark.parametrize(
    ("text", "interval"), [("100/s", 0.01), ("5/m", 12.0), ("1/10s", 10.0), ("7200/h", 0.5), ("1/90m", 5400.0)]
)
def test_a_rate_is_read_as_written(text: str, interval: float) -> None:
    assert parse_rate(text).interval == pytest.approx(interval)


@pytest.mark.parametrize("text", ["", "100", "0/s", "1/0s", "-1/s", "1.5/s", "10/d", "10 / s", "10/s/s"])
def test_what_is_no_rate_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="such as 100/s"):
        parse_rate(text)


steps = st.lists(st.tuples(st.sampled_from(["take", "give"]), st.integers(0, 8)), max_size=60)


@given(st.integers(1, 4), steps)
def test_never_more_holders_than_places_and_each_once(limit: int, steps: list[tuple[str, int]]) -> None:
    state, inside = PlaceState(), set()
    for step, number in steps:
        task = f"t{number}"
        if step == "give":
            state, inside = leave_place(state, Holder(task=task, message=number + 1)), inside - {task}
            continue
        taken = take_place(state, Holder(task=task, message=number + 1), limit)
        if isinstance(taken, Full):
            assert task not in inside
            assert len(inside) == limit
            continue
        state, inside = taken, inside | {task}
        assert len(state.holders) == len(inside) <= limit
        assert {holder.task for holder in state.holders} == inside


def test_a_redelivered_task_takes_over_its_own_place() -> None:
    state = PlaceState(holders=(Holder(task="a", message=3),))
    assert take_place(state, Holder(task="a", message=3), 1) is state
    moved = take_place(state, Holder(task="a", message=9), 1)
    assert isinstance(moved, PlaceState)
    assert moved.holders == (Holder(task="a", message=9),)


def test_who_has_a_place_keeps_it_when_the_limit_is_lowered() -> None:
    state = PlaceState(holders=(Holder(task="a", message=1), Holder(task="b", message=2)))
    assert take_place(state, Holder(task="a", message=1), 1) is state
    assert isinstance(take_place(state, Holder(task="c", message=3), 1), Full)
    one_left = leave_place(state, Holder(task="a", message=1))
    assert isinstance(take_place(one_left, Holder(task="c", message=3), 1), Full)


def test_an_earlier_message_of_a_task_neither_takes_nor_gives_back_the_place_of_a_later_one() -> None:
    """Its worker was slow, or it came again: the attempt that runs now has another message."""
    state = PlaceState(holders=(Holder(task="a", message=9),))
    assert take_place(state, Holder(task="a", message=3), 1) is state
    assert leave_place(state, Holder(task="a", message=3)) is state
    assert leave_place(state, Holder(task="a", message=9)).holders == ()


def test_a_place_given_on_the_way_from_the_line_goes_with_whatever_ends_the_task() -> None:
    state = PlaceState(holders=(Holder(task="a"), Holder(task="b", message=2)))
    assert leave_place(state, Holder(task="a", message=5)).holders == (Holder(task="b", message=2),)


def test_the_sentence_names_the_key_the_places_and_the_holders() -> None:
    assert say_full("customer-7", 1, (Holder(task="a"),)) == "waits for 1 of 1 places of key customer-7, held by task a"
    many = tuple(Holder(task=name) for name in "abcd")
    assert say_full("k", 4, many) == "waits for one of 4 places of key k, held by tasks a, b, c and others"
