"""Floors and ceilings by the clock: time zones, both changes of summer time, and what can't be read."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_scaling import Memory, Observation, Policy, check_schedules, decide
from millpond_scaling.model import Schedule
from millpond_scaling.schedules import Unreadable, is_active, last_moment

OFFICE = Schedule("office", "0 8 * * 1-5", "0 18 * * 1-5", "Europe/Berlin", min_workers=5)


def wall(text: str) -> float:
    """Epoch seconds of a time with its offset."""
    return datetime.fromisoformat(text).timestamp()


def schedule(start: str, end: str, zone: str = "Europe/Berlin") -> Schedule:
    return Schedule("it", start, end, zone, min_workers=3)


# Berlin: 2026-03-29 02:00 → 03:00 (+01 → +02), 2026-10-25 03:00 → 02:00 (+02 → +01).
MOMENTS = [
    pytest.param(OFFICE, "2026-11-20T07:59:59+01:00", False, id="Friday, a second before"),
    pytest.param(OFFICE, "2026-11-20T08:00:00+01:00", True, id="Friday, it begins"),
    pytest.param(OFFICE, "2026-11-20T17:59:59+01:00", True, id="Friday, the last second"),
    pytest.param(OFFICE, "2026-11-20T18:00:00+01:00", False, id="Friday, it ends"),
    pytest.param(OFFICE, "2026-11-21T12:00:00+01:00", False, id="Saturday"),
    pytest.param(OFFICE, "2026-11-20T07:30:00+00:00", True, id="the zone is the schedule's: 07:30 UTC is 08:30"),
    pytest.param(OFFICE, "2026-07-17T06:30:00+00:00", True, id="in summer 06:30 UTC is 08:30"),
    pytest.param(OFFICE, "2026-07-17T05:30:00+00:00", False, id="in summer 05:30 UTC is 07:30"),
    pytest.param(schedule("0 22 * * *", "0 6 * * *"), "2026-11-20T03:00:00+01:00", True, id="over midnight"),
    pytest.param(schedule("0 22 * * *", "0 6 * * *"), "2026-11-20T12:00:00+01:00", False, id="over midnight, by day"),
    pytest.param(schedule("0 0 1 * *", "0 0 3 * *"), "2026-11-02T12:00:00+01:00", True, id="the month's first days"),
    pytest.param(
        schedule("0 0 29 2 *", "0 0 1 3 *"), "2026-02-28T12:00:00+01:00", False, id="29 February, 2 years after"
    ),
    pytest.param(schedule("0 0 29 2 *", "0 0 1 3 *"), "2028-02-29T12:00:00+01:00", True, id="29 February"),
    pytest.param(schedule("*/10 * * * *", "5-55/10 * * * *"), "2026-11-20T12:13:00+01:00", True, id="every 10 minutes"),
    pytest.param(schedule("*/10 * * * *", "5-55/10 * * * *"), "2026-11-20T12:17:00+01:00", False, id="and its end"),
    pytest.param(schedule("0 8 * * *", "0 8 * * *"), "2026-11-20T12:00:00+01:00", False, id="start and end at once"),
    # Spring: 02:30 does not exist; cron runs it right after the jump.
    pytest.param(
        schedule("30 2 * * *", "0 12 * * *"), "2026-03-29T01:59:59+01:00", False, id="spring: before the skipped start"
    ),
    pytest.param(
        schedule("30 2 * * *", "0 12 * * *"),
        "2026-03-29T03:00:00+02:00",
        True,
        id="spring: a skipped start is at 03:00",
    ),
    pytest.param(
        schedule("0 12 * * *", "30 2 * * *"), "2026-03-29T01:59:59+01:00", True, id="spring: before the skipped end"
    ),
    pytest.param(
        schedule("0 12 * * *", "30 2 * * *"), "2026-03-29T03:00:00+02:00", False, id="spring: a skipped end is at 03:00"
    ),
    pytest.param(OFFICE, "2026-03-30T08:00:00+02:00", True, id="spring: the day after, by the wall clock"),
    pytest.param(OFFICE, "2026-03-30T07:59:00+02:00", False, id="spring: the day after, not by the old offset"),
    # Autumn: 02:30 comes twice; it is meant the first time.
    pytest.param(
        schedule("30 2 * * *", "0 12 * * *"), "2026-10-25T02:29:59+02:00", False, id="autumn: before the doubled start"
    ),
    pytest.param(
        schedule("30 2 * * *", "0 12 * * *"), "2026-10-25T02:30:00+02:00", True, id="autumn: the first 02:30 starts it"
    ),
    pytest.param(
        schedule("30 2 * * *", "0 12 * * *"),
        "2026-10-25T02:15:00+01:00",
        True,
        id="autumn: still on at the second 02:15",
    ),
    pytest.param(
        schedule("30 2 * * *", "45 2 * * *"), "2026-10-25T02:35:00+01:00", False, id="autumn: not again the second time"
    ),
    pytest.param(
        schedule("0 12 * * *", "30 2 * * *"), "2026-10-25T02:10:00+01:00", False, id="autumn: ended at the first 02:30"
    ),
    pytest.param(OFFICE, "2026-10-26T08:00:00+01:00", True, id="autumn: the day after, by the wall clock"),
    pytest.param(
        schedule("0 * * * *", "30 * * * *"), "2026-10-25T02:10:00+01:00", True, id="autumn: hourly runs in both hours"
    ),
    pytest.param(
        schedule("30 2 * * *", "0 12 * * *", "Australia/Lord_Howe"),
        "2026-10-04T02:30:00+11:00",
        True,
        id="Lord Howe: half an hour is skipped",
    ),
    pytest.param(
        schedule("45 1 * * *", "0 12 * * *", "Australia/Lord_Howe"),
        "2026-04-05T01:35:00+10:30",
        True,
        id="Lord Howe: half an hour comes twice",
    ),
    pytest.param(
        schedule("30 0 * * *", "0 12 * * *", "America/Havana"),
        "2026-03-08T01:00:00-04:00",
        True,
        id="Havana: 00:30 skipped",
    ),
]


@pytest.mark.parametrize(("schedule", "at", "active"), MOMENTS)
def test_a_schedule_is_active_from_its_start_to_its_end(schedule: Schedule, at: str, active: bool) -> None:
    assert is_active(schedule, wall(at)) is active


UNREADABLE = [
    pytest.param("* * * *", "UTC", "'* * * *' does not have five fields", id="four fields"),
    pytest.param("* * * * * *", "UTC", "'* * * * * *' does not have five fields", id="seconds are not cron's"),
    pytest.param("@daily", "UTC", "'@daily' does not have five fields", id="nickname"),
    pytest.param("61 8 * * *", "UTC", "'61 8 * * *' can't be read (bad minute)", id="no such minute"),
    pytest.param("0 8 * * MOO", "UTC", "'0 8 * * MOO' can't be read (bad day-of-week)", id="no such day"),
    pytest.param("0 8 31 2 *", "UTC", "'0 8 31 2 *' can't be read (bad day-of-month)", id="31 February"),
    pytest.param("0 8 * * *", "Europe/Bern1", "has an unknown time zone 'Europe/Bern1'", id="no such zone"),
    pytest.param("0 8 * * *", "Europe", "has an unknown time zone 'Europe'", id="a folder of zones"),
    pytest.param("0 8 * * *", "../../etc/passwd", "has an unknown time zone '../../etc/passwd'", id="a path"),
    pytest.param("0 8 * * *", "", "has an unknown time zone ''", id="an empty zone"),
]


@pytest.mark.parametrize(("expression", "zone", "why"), UNREADABLE)
def test_what_cannot_be_read_is_named_and_bounds_nothing(expression: str, zone: str, why: str) -> None:
    broken = Schedule("odd", expression, "0 18 * * *", zone, min_workers=9, max_workers=0)
    policy = Policy(
        min_workers=1, max_workers=4, schedules=(broken, Schedule("on", "0 0 * * *", "0 0 1 1 *", "UTC", 2))
    )
    decision = decide(Observation(0, 0, 1, wall=wall("2026-11-20T12:00:00+00:00")), policy, Memory(seen=(0.0, 1)), 1.0)
    assert decision.target == 2, "the other schedule still counts"
    assert f"schedule odd has no effect: start {why}" in decision.message
    assert is_active(Schedule("odd", "0 8 * * *", expression, zone), 0.0) == Unreadable(
        f"{'start' if zone != 'UTC' else 'end'} {why}"
    )


def test_a_wall_clock_that_cannot_be_is_named() -> None:
    assert isinstance(is_active(OFFICE, 1e18), Unreadable)


BOUNDS = [
    pytest.param([(5, None)], 0, 5, "schedule s0", id="a floor raises"),
    pytest.param([(5, None), (7, None), (6, None)], 0, 7, "schedule s1", id="the highest floor wins"),
    pytest.param([(None, 4), (None, 3)], 9, 3, "schedule s1", id="the lowest ceiling wins"),
    pytest.param([(8, None), (None, 3)], 0, 3, "schedule s1", id="where they conflict, the ceiling"),
    pytest.param([(1, 40)], 9, 9, "", id="bounds wider than the spec's change nothing"),
    pytest.param([(None, 40)], 99, 10, "maxWorkers", id="a ceiling never raises maxWorkers"),
]


@pytest.mark.parametrize(("bounds", "need", "target", "clamp"), BOUNDS)
def test_schedules_bound_the_number_at_once(
    bounds: list[tuple[int | None, int | None]], need: int, target: int, clamp: str
) -> None:
    schedules = tuple(
        Schedule(f"s{i}", "0 0 * * *", "0 0 1 1 *", "UTC", low, high) for i, (low, high) in enumerate(bounds)
    )
    policy = Policy(min_workers=1, max_workers=10, schedules=schedules)
    seen = Observation(need, need, need, wall=wall("2026-11-20T12:00:00+00:00"))
    decision = decide(seen, policy, Memory(seen=(0.0, need)), 1.0)
    assert (decision.target, decision.clamp) == (target, clamp), decision.message


def test_the_sentence_names_the_schedule_and_the_inputs_its_bounds() -> None:
    policy = Policy(max_workers=10, schedules=(OFFICE,))
    decision = decide(Observation(0, 0, 0, wall=wall("2026-11-20T12:00:00+01:00")), policy, Memory(), 0.0)
    assert decision.message == "nothing waits or runs; schedule office asks for 5"
    assert (decision.inputs["floor"], decision.inputs["ceiling"]) == (5, 10)


def spec(*schedules: dict[str, object]) -> WorkerPoolSpec:
    scaling = {"maxWorkers": 10, "schedules": list(schedules)}
    return WorkerPoolSpec.model_validate({"image": "i", "app": "a:b", "scaling": scaling})


CHECKS = [
    pytest.param({"start": "0 8 * * *", "end": "0 18 * * *", "minWorkers": 2}, [], id="nothing"),
    pytest.param(
        {"start": "0 8 * * *", "end": "99 18 * * *", "minWorkers": 2},
        ["schedule one has no effect: end '99 18 * * *' can't be read (bad minute)"],
        id="an end that can't be read",
    ),
    pytest.param(
        {"start": "0 8 * * *", "end": "0  8 * * *", "minWorkers": 2},
        ["schedule one has no effect: it ends when it starts"],
        id="start is end",
    ),
    pytest.param(
        {"start": "0 8 * * *", "end": "0 18 * * *", "minWorkers": 6, "maxWorkers": 5},
        ["schedule one has minWorkers above maxWorkers; maxWorkers wins"],
        id="floor above its own ceiling",
    ),
    pytest.param(
        {"start": "0 8 * * *", "end": "0 18 * * *", "minWorkers": 20},
        ["schedule one asks for 20 workers, but spec.scaling.maxWorkers is 10"],
        id="floor above maxWorkers",
    ),
]


@pytest.mark.parametrize(("one", "sentences"), CHECKS)
def test_the_pool_is_told_what_is_wrong_with_its_schedules(one: dict[str, object], sentences: list[str]) -> None:
    assert check_schedules(spec({"name": "one"} | one)) == sentences


def test_two_schedules_of_one_name_are_told() -> None:
    one = {"name": "one", "start": "0 8 * * *", "end": "0 18 * * *", "minWorkers": 2}
    assert check_schedules(spec(one, one)) == ["two schedules are named one"]


# ---- what holds always

zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana"]
)
CHANGES = [29_549_100, 29_549_220, 29_579_100, 29_588_580, 29_850_690, 29_881_500, 29_891_820, 29_891_880]
"""Minutes when one of these zones changes its clock in 2026."""
minutes = st.integers(27_800_000, 29_900_000) | st.builds(int.__add__, st.sampled_from(CHANGES), st.integers(-400, 200))
"""2022 to 2026, and close to a change."""
fields = st.tuples(
    st.sampled_from(["0", "30", "*/20", "15,45", "*"]),
    st.sampled_from(["*", "0", "1", "2", "3", "*/6", "1-3"]),
    st.sampled_from(["*", "*", "1", "28-31"]),
    st.sampled_from(["*", "*", "3,10"]),
    st.sampled_from(["*", "*", "SUN", "1-5"]),
)


@settings(max_examples=60)
@given(fields, zones, minutes)
@example(("*/20", "2", "*", "*", "*"), "Europe/Berlin", 29_881_500)
@example(("30", "*", "*", "*", "*"), "Europe/Berlin", 29_881_261)
@example(("*", "*/6", "*", "*", "*"), "Australia/Lord_Howe", 29_588_500)
@example(("*/20", "0", "*", "*", "*"), "Australia/Lord_Howe", 29_850_600)
def test_the_last_moment_is_reached_only_by_time_and_never_goes_back(
    fields: tuple[str, ...], zone: str, minute: int
) -> None:
    """Looked at every minute over a change of time it never falls, and what is a moment is one when it comes."""
    expression = " ".join(fields)
    before = last_moment(expression, zone, minute)
    assert isinstance(before, int)
    for later in range(minute, minute + 240):
        moment = last_moment(expression, zone, later)
        assert isinstance(moment, int)
        assert before <= moment <= later
        assert last_moment(expression, zone, moment) == moment
        before = moment


@settings(max_examples=30)
@given(st.integers(0, 59), st.integers(0, 23), zones, st.integers(19_400, 20_700))
def test_a_daily_moment_comes_once_on_every_day(minute: int, hour: int, zone: str, day: int) -> None:
    """Also on the two days a year that have 23 and 25 hours."""
    tz = ZoneInfo(zone)
    noon = day * 1440 + 720
    moments = {last_moment(f"{minute} {hour} * * *", zone, noon + 30 * n) for n in range(48 * 5)}
    dates = sorted(datetime.fromtimestamp(m * 60, tz).date() for m in moments if isinstance(m, int))
    assert len(dates) == len(set(dates))
    assert (dates[-1] - dates[0]).days + 1 == len(dates)


def test_the_floor_of_an_hour_costs_one_reckoning_a_minute() -> None:
    last_moment.cache_clear()
    for second in range(600):
        is_active(OFFICE, 1_790_000_000.0 + second)
    assert last_moment.cache_info().misses <= 2 * 11


def test_the_reference_of_the_check_is_a_moment_in_utc() -> None:
    assert datetime(2024, 1, 1, tzinfo=UTC).timestamp() == 28_401_120 * 60
