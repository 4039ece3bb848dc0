"""The forecast: what it learns, when it is on, and that it says nothing where it would waste more than it saves."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_scaling import Memory, Observation, Policy, decide, make_plan
from millpond_scaling.forecast import (
    BIN,
    DAY,
    WEEK,
    History,
    Plan,
    begin,
    describe,
    floor,
    from_json,
    observe,
    to_json,
)

MIDNIGHT = 20_717 * 86_400.0
"""2026-09-21, a Monday, in UTC."""
PLAN = Plan(ahead=600.0)
HOUR = 3600.0
DICE = random.Random(1).choices((0, 0, 0, 5, 10), k=2000)


def office(second: float) -> int:
    """10 workers from 8 to 18, every day."""
    return 10 if 8 <= second % 86_400 / HOUR < 18 else 0


def wave(second: float) -> int:
    return round(10 + 8 * math.sin((second / HOUR - 8) / 24 * 2 * math.pi))


def flat(second: float) -> int:
    return 5


def dice(second: float) -> int:
    """Every ten minutes another number, which no history foresees."""
    return DICE[int(second // 600)]


def weekdays(second: float) -> int:
    return office(second) if second // 86_400 % 7 < 5 else 0


def until_day_4(second: float) -> int:
    return office(second) if second < 4 * 86_400 else 0


@dataclass
class Played:
    """A history, and (hours since its beginning, floor) at every look."""

    history: History
    floors: list[tuple[float, int | None]]

    def at(self, hours: float) -> int | None:
        return next(told for hour, told in self.floors if hour >= hours)

    def switches(self) -> list[tuple[float, bool]]:
        known = [(hour, told is not None) for hour, told in self.floors]
        return [(b[0], b[1]) for a, b in pairwise(known) if a[1] != b[1]]


def play(need: Callable[[float], int], days: float, plan: Plan = PLAN, every: int = 60) -> Played:
    history, floors = begin(plan), []
    for second in range(0, int(days * 86_400), every):
        history = observe(history, plan, MIDNIGHT + second, need(second))
        floors.append((second / HOUR, floor(history, plan, MIDNIGHT + second)))
    return Played(history, floors)


def test_the_floor_rises_before_the_rush_and_falls_after_it() -> None:
    played = play(office, 4)
    day = 3 * 24.0
    assert played.at(day + 7.8) == 0
    assert played.at(day + 7.85) == 10, "ten minutes ahead, to five"
    assert played.at(day + 12) == 10
    assert played.at(day + 18.01) == 0


@pytest.mark.parametrize("need", [office, wave], ids=["office", "wave"])
def test_a_load_that_repeats_switches_it_on_once_it_is_learnt_and_judged(need: Callable[[float], int]) -> None:
    played = play(need, 4)
    assert played.switches() == [(48.0, True)], "a day to learn, a day to judge"
    assert "the forecast is on" in describe(played.history, PLAN)


@pytest.mark.parametrize("need", [flat, dice], ids=["flat", "random"])
def test_a_load_that_it_can_save_nothing_of_never_switches_it_on(need: Callable[[float], int]) -> None:
    played = play(need, 6)
    assert played.switches() == []
    assert "the forecast is off" in describe(played.history, PLAN)


def test_a_rush_that_no_longer_comes_switches_it_off_within_a_day() -> None:
    played = play(until_day_4, 6)
    assert [on for _, on in played.switches()] == [True, False]
    assert 4 * 24 + 8 < played.switches()[1][0] < 5 * 24


def test_a_daily_season_goes_off_at_the_weekend_and_on_again_in_the_week() -> None:
    played = play(weekdays, 12)
    assert [on for _, on in played.switches()] == [True, False, True]
    off, on = (hour / 24 for hour, _ in played.switches()[1:])
    assert 5 < off < 6, "on the Saturday"
    assert 7 < on < 11, "in the next week"


def test_a_weekly_season_knows_the_weekend() -> None:
    played = play(weekdays, 22, Plan(600.0, WEEK))
    assert played.at(14 * 24 + 8.5) == 10
    assert played.at((14 + 5) * 24 + 8.5) == 0
    assert [on for _, on in played.switches()] == [True]


def test_hours_without_a_look_are_neither_learnt_nor_judged() -> None:
    def seen(second: float) -> bool:
        return not (9 <= second / HOUR < 11 or 60 < second - 13 * HOUR < 300)

    history = begin(PLAN)
    for second in range(0, 86_400, 60):
        if seen(second):
            history = observe(history, PLAN, MIDNIGHT + second, office(second))
    gap = [history.seasons[index] for index in range(9 * 12, 11 * 12)]
    assert set(gap) == {0}
    assert history.seasons[13 * 12] == 0, "of these five minutes one was seen"
    assert history.seasons[8 * 12] == 1
    assert history.profile[8 * 12] == 10


def test_a_clock_that_goes_back_begins_a_new_bin() -> None:
    history = observe(begin(PLAN), PLAN, MIDNIGHT + 100, 5)
    back = observe(history, PLAN, MIDNIGHT - 5000, 7)
    assert back.open.seconds == 0
    assert observe(back, PLAN, MIDNIGHT - 4950, 7).open.worker_seconds == 350


def test_another_season_begins_anew() -> None:
    learnt = play(office, 3).history
    week = Plan(600.0, WEEK)
    assert floor(learnt, week, MIDNIGHT) is None
    assert len(observe(learnt, week, MIDNIGHT + 9e5, 1).profile) == WEEK


@pytest.mark.parametrize("data", [None, {}, {"version": 0}, {"version": 1, "profile": "x", "seasons": []}, [1], "?"])
def test_state_that_cannot_be_read_begins_anew(data: object) -> None:
    assert from_json(data, PLAN) == begin(PLAN)


def test_what_was_kept_goes_on_as_if_nothing_had_happened() -> None:
    history = play(wave, 3).history
    kept = from_json(json.loads(json.dumps(to_json(history))), PLAN)
    assert kept == history
    assert observe(kept, PLAN, MIDNIGHT + 3e5, 4) == observe(history, PLAN, MIDNIGHT + 3e5, 4)
    assert len(json.dumps(to_json(play(wave, 3, Plan(600.0, WEEK)).history))) < 32_000


def test_the_spec_says_what_is_wanted() -> None:
    def plan(**scaling: object) -> Plan | None:
        return make_plan(WorkerPoolSpec.model_validate({"image": "i", "app": "a:b", "scaling": scaling}))

    assert plan() is None
    assert plan(forecast={}) == Plan(600.0, DAY)
    assert plan(forecast={"ahead": "1h", "season": "Week"}) == Plan(3600.0, WEEK)


def test_the_decision_says_that_the_forecast_raised_it() -> None:
    decision = decide(Observation(0, 0, 0, forecast=10), Policy(max_workers=20), Memory(), 0.0)
    assert (decision.target, decision.message) == (10, "nothing waits or runs; the forecast raises it to 10")


# ---- what holds always

looks = st.lists(st.tuples(st.floats(-1000, 5000), st.integers(0, 1000)), min_size=1, max_size=60)


@settings(max_examples=60)
@given(looks)
def test_whatever_is_seen_the_state_stays_of_one_size_and_survives_json(looks: list[tuple[float, int]]) -> None:
    history, wall = begin(PLAN), MIDNIGHT
    for wait, needed in looks:
        wall += wait
        history = observe(history, PLAN, wall, needed)
        assert len(history.profile) == len(history.seasons) == DAY
        assert from_json(json.loads(json.dumps(to_json(history))), PLAN) == history
        assert min(history.profile) >= 0
        assert max(history.profile) <= max(n for _, n in looks) + 0.001
        assert 0 <= history.open.seconds <= BIN + 0.001


@settings(max_examples=10)
@given(st.lists(st.integers(0, 50), min_size=24, max_size=24), st.floats(60, 7200))
def test_the_floor_is_never_above_what_was_once_needed_nor_below_what_is_near(hours: list[int], ahead: float) -> None:
    """The same day four times, by the hour: where it is on, the floor covers now and `ahead` from now."""
    plan = Plan(ahead)
    played = play(lambda second: hours[int(second // HOUR) % 24], 4, plan)
    for hour, told in played.floors:
        if told is not None and hour > 72:
            assert told <= max(hours)
            assert told >= hours[int(hour) % 24]
            assert told >= hours[int(hour + ahead / HOUR) % 24]
