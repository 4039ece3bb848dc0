"""Missing, stale and contradictory data: held and said, never to zero, never in the other direction."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_scaling import ClassLoad, Decision, Memory, Observation, Policy, decide
from millpond_scaling.model import Behavior

QUICK = Policy(max_workers=20, slots=2, scale_down=Behavior(), idle_after=0.0)
LOOKED = Memory(seen=(0.0, 5), empty_since=-100.0)


def look(seen: Observation, policy: Policy = QUICK) -> Decision:
    return decide(seen, policy, LOOKED, 1.0)


IMPOSSIBLE = [
    pytest.param({"lag": -1}, "lag of -1 can't be: holding 5 workers", id="negative lag"),
    pytest.param({"in_flight": -2}, "tasks in flight of -2 can't be: holding 5 workers", id="negative in flight"),
    pytest.param({"ready": -1}, "ready workers of -1 can't be: holding 5 workers", id="negative ready"),
    pytest.param({"arrived": -1}, "arrivals of -1 can't be: holding 5 workers", id="negative counter"),
    pytest.param({"allowance": -1}, "allowance of -1 can't be: holding 5 workers", id="negative allowance"),
    pytest.param({"forecast": -1}, "forecast of -1 can't be: holding 5 workers", id="negative forecast"),
    pytest.param({"unschedulable": -1}, "unschedulable pods of -1 can't be: holding 5 workers", id="negative pods"),
    pytest.param(
        {"classes": (ClassLoad("a", -3, 5),)}, "-3 tasks of class a can't be: holding 5 workers", id="negative class"
    ),
    pytest.param(
        {"lag": 3, "in_flight": 14},
        "14 in flight of 3 in the queue can't be with 10 slots: holding 5 workers",
        id="more in flight than the queue and all slots explain",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), IMPOSSIBLE)
@pytest.mark.parametrize("lag", [0, 90], ids=["idle", "busy"])
def test_what_cannot_be_holds_the_number_and_is_said(wrong: dict[str, Any], message: str, lag: int) -> None:
    seen = replace(Observation(lag, 0, 5), **wrong)
    decision = look(seen)
    assert (decision.target, decision.reason, decision.message) == (5, "Contradictory", message)


def test_heartbeats_older_than_the_lag_are_no_contradiction() -> None:
    """All 10 slots finished after their heartbeat and before the lag was read."""
    decision = look(Observation(0, 10, 5))
    assert (decision.target, decision.reason) == (5, "Steady")


def test_more_ready_than_asked_for_takes_nothing_away_and_still_grows() -> None:
    idle = look(Observation(0, 0, 5, ready=7))
    assert (idle.target, idle.reason, idle.clamp) == (5, "Contradictory", "doubt")
    assert idle.message == "nothing waits or runs; 7 workers are ready where 5 were asked for, so 5 workers stay"
    assert look(Observation(30, 10, 5, ready=7)).target == 15
    assert look(Observation(0, 0, 5, ready=5)).target == 0


def test_silent_heartbeats_only_add() -> None:
    idle = look(Observation(0, None, 5))
    assert (idle.target, idle.reason) == (5, "HeartbeatsMissing")
    assert idle.message == "0 in the queue need 0 workers; heartbeats are missing, so 5 workers stay"
    busy = look(Observation(30, None, 5))
    assert (busy.target, busy.message) == (15, "30 in the queue need 15 workers")


def test_a_silent_pool_is_not_idle_however_long_it_is_silent() -> None:
    memory = LOOKED
    for second in range(100):
        memory = decide(Observation(0, None, 5), replace(QUICK, idle_after=30.0), memory, float(second)).memory
    assert decide(Observation(0, 0, 1), replace(QUICK, idle_after=30.0), memory, 100.0).target == 1


@pytest.mark.parametrize("hold", [Observation(None, 0, 5), Observation(-1, 0, 5)], ids=["no lag", "impossible lag"])
def test_after_a_hold_the_windows_begin_anew(hold: Observation) -> None:
    """A minute without data is no minute in which nothing was needed."""
    policy, memory = replace(QUICK, scale_down=Behavior(10.0), idle_after=20.0), LOOKED
    for second in range(1, 61):
        memory = decide(hold, policy, memory, float(second)).memory
    targets = {}
    for second in range(61, 90):
        decision = decide(Observation(0, 0, 5), policy, memory, float(second))
        memory, targets[second] = decision.memory, decision.target
    assert targets[69] == 5, "10 s of scaleDown.stabilization after the last second of the hold"
    assert targets[70] == 1
    assert targets[80] == 1, "20 s of idleAfter"
    assert targets[81] == 0


def test_a_queue_read_without_its_counter_forgets_no_rate() -> None:
    """A wake reads the lag alone."""
    memory = Memory(seen=(0.0, 5), rates=(("", 0.5, 40, 3.0),))
    policy = replace(QUICK, latency=10.0)
    assert decide(Observation(4, 4, 5), policy, memory, 1.0).memory.rates == memory.rates


@pytest.mark.parametrize("service", [float("nan"), float("inf"), -1.0])
def test_a_service_time_that_cannot_be_counts_as_unknown(service: float) -> None:
    decision = look(Observation(12, 2, 5, arrived=12, service_seconds=service), replace(QUICK, latency=10.0))
    assert decision.target == 6
    assert "no service time is known" in decision.message


# ---- what holds always

SLOW = settings(max_examples=100)
missing = st.builds(
    Observation,
    lag=st.none() | st.integers(-5, 100),
    in_flight=st.none() | st.integers(-5, 100),
    current=st.just(0),
    ready=st.none() | st.integers(-1, 40),
    arrived=st.none() | st.integers(-1, 1000),
    service_seconds=st.none() | st.floats(allow_nan=True, allow_infinity=True),
    wall=st.floats(allow_nan=False, allow_infinity=False),
)


@SLOW
@given(st.lists(st.tuples(st.floats(0.0, 100), missing), min_size=1, max_size=30), st.integers(1, 20), st.booleans())
def test_data_that_is_missing_or_impossible_never_flips_the_direction_and_never_goes_to_zero(
    looks: list[tuple[float, Observation]], start: int, latency: bool
) -> None:
    policy = replace(QUICK, latency=10.0 if latency else None)
    memory, now, current = Memory(), 0.0, start
    for wait, seen in looks:
        now += wait
        decision = decide(replace(seen, current=current), policy, memory, now)
        memory = decision.memory
        assert decision.target >= 0
        if seen.lag is None or seen.lag < 0 or (seen.in_flight or 0) < 0:
            assert decision.target == current
        elif seen.in_flight is None or (seen.ready is not None and seen.ready > current):
            assert decision.target >= current
        current = decision.target


@SLOW
@given(st.integers(0, 100), st.integers(0, 20), st.none() | st.integers(0, 40))
def test_a_missing_half_never_asks_for_fewer_than_the_whole_picture_would_add(
    lag: int, current: int, in_flight: int | None
) -> None:
    """Growth without heartbeats is at most what they would show: what waits is never more than the lag."""
    blind = decide(Observation(lag, None, current), QUICK, LOOKED, 1.0)
    whole = decide(Observation(lag, min(in_flight or 0, lag), current), QUICK, LOOKED, 1.0)
    assert blind.target >= current
    assert blind.target <= max(current, whole.target)
