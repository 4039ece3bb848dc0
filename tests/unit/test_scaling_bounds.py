"""Activation, warm workers, bounds, holds and who wins: what keeps a pool from what its queue needs."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_scaling import Decision, Memory, Observation, Policy, decide
from millpond_scaling.model import Behavior, RatePolicy, Schedule

NOW = 1000.0
QUICK = Policy(max_workers=20, scale_down=Behavior())


def look(policy: Policy, lag: int, in_flight: int, current: int, **seen: Any) -> Decision:
    """One look of somebody who looked a second ago and saw the queue empty for an hour before."""
    memory = Memory(seen=(NOW - 1, current), empty_since=None if lag else NOW - 3600)
    return decide(Observation(lag, in_flight, current, **seen), policy, memory, NOW)


Row = tuple[Policy, tuple[int, int, int], dict[str, Any], int, str, str]


def row(policy: Policy, load: tuple[int, int, int], target: int, reason: str, clamp: str, id: str, **seen: Any) -> Any:
    """`load` is (lag, in flight, current workers)."""
    return pytest.param(policy, load, seen, target, reason, clamp, id=id)


WARM = replace(QUICK, warm=2)
ACTIVE = replace(QUICK, activation=10)
ROWS = [
    # activationLag
    row(ACTIVE, (10, 0, 0), 0, "Inactive", "activationLag", "at zero: lag 10 is not greater than 10"),
    row(ACTIVE, (11, 0, 0), 11, "ScaleUp", "", "at zero: lag 11 wakes it, and all of it counts"),
    row(ACTIVE, (3, 1, 1), 3, "ScaleUp", "", "above zero activationLag says nothing"),
    row(replace(ACTIVE, min_workers=1), (5, 0, 0), 1, "ScaleUp", "minWorkers", "a floor starts it all the same"),
    # warmWorkers
    row(WARM, (3, 3, 3), 5, "ScaleUp", "warmWorkers", "3 busy and 2 warm are 5"),
    row(WARM, (0, 0, 5), 2, "ScaleDown", "warmWorkers", "at rest the warm ones stay"),
    row(replace(WARM, min_workers=3), (0, 0, 5), 3, "ScaleDown", "minWorkers", "at rest the higher of warm and min"),
    row(replace(WARM, max_workers=4), (3, 3, 3), 4, "ScaleUp", "maxWorkers", "warm ones stay under maxWorkers"),
    row(replace(WARM, activation=9), (5, 0, 0), 2, "ScaleUp", "warmWorkers", "not active, but warm"),
    # bounds
    row(replace(QUICK, min_workers=4), (1, 1, 1), 4, "ScaleUp", "minWorkers", "the floor raises at once"),
    row(replace(QUICK, max_workers=4), (9, 9, 9), 4, "ScaleDown", "maxWorkers", "the ceiling lowers at once"),
    row(replace(QUICK, max_workers=4), (9, 4, 4), 4, "Steady", "maxWorkers", "at the ceiling"),
    row(replace(QUICK, max_workers=0), (9, 0, 0), 0, "Steady", "maxWorkers", "maxWorkers 0 is off"),
    # allowance of a group
    row(QUICK, (9, 3, 3), 5, "ScaleUp", "group blue", "the group leaves 5", allowance=5, group="blue"),
    row(QUICK, (9, 5, 7), 5, "ScaleDown", "group blue", "the group takes 2", allowance=5, group="blue"),
    row(QUICK, (30, 9, 9), 20, "ScaleUp", "maxWorkers", "not above maxWorkers", allowance=50, group="blue"),
    row(QUICK, (9, 3, 3), 9, "ScaleUp", "", "the group leaves more than is needed", allowance=50, group="blue"),
    row(
        replace(QUICK, min_workers=8),
        (9, 3, 3),
        5,
        "ScaleUp",
        "group blue",
        "over minWorkers",
        allowance=5,
        group="blue",
    ),
    # nodes
    row(QUICK, (9, 3, 5), 5, "Unschedulable", "unschedulable", "no room: the climb stops", unschedulable=2),
    row(QUICK, (2, 2, 5), 2, "ScaleDown", "", "no room: going down still works", unschedulable=2),
    row(
        replace(QUICK, min_workers=9),
        (1, 1, 5),
        5,
        "Unschedulable",
        "unschedulable",
        "not even minWorkers",
        unschedulable=1,
    ),
    row(QUICK, (9, 0, 0), 9, "ScaleUp", "", "at zero no pod of it can be waiting for a node", unschedulable=3),
    # pauses
    row(replace(QUICK, pause="Up"), (9, 3, 3), 3, "Paused", "pause", "pause Up adds none"),
    row(replace(QUICK, pause="Up"), (1, 1, 3), 1, "ScaleDown", "", "pause Up takes away"),
    row(replace(QUICK, pause="Down"), (1, 1, 3), 3, "Paused", "pause", "pause Down takes none away"),
    row(replace(QUICK, pause="Down"), (9, 3, 3), 9, "ScaleUp", "", "pause Down adds"),
    row(replace(QUICK, pause="Up", min_workers=5), (1, 1, 3), 3, "Paused", "pause", "pause Up wins over minWorkers"),
    row(
        replace(QUICK, pause="Down", max_workers=2), (9, 3, 3), 3, "Paused", "pause", "pause Down wins over maxWorkers"
    ),
    row(replace(QUICK, pause="Up", min_workers=5), (0, 0, 0), 0, "Paused", "", "held at what is needed: no clamp"),
    row(replace(QUICK, pause="All"), (9, 3, 3), 3, "Paused", "", "pause All"),
    # manual and shadow
    row(replace(QUICK, manual=7, pause="All"), (0, 0, 3), 7, "Manual", "", "kubectl scale wins over pause"),
    row(replace(QUICK, manual=70), (0, 0, 3), 70, "Manual", "", "kubectl scale wins over maxWorkers"),
    row(replace(QUICK, manual=7, shadow=True), (4, 3, 3), 4, "ScaleUp", "", "in shadow it is decided as in Auto"),
    row(replace(QUICK, shadow=True, pause="All"), (4, 3, 3), 3, "Paused", "", "a pause counts in shadow too"),
    # forecast
    row(QUICK, (2, 2, 2), 6, "ScaleUp", "forecast", "the forecast raises", forecast=6),
    row(QUICK, (8, 2, 2), 8, "ScaleUp", "", "the forecast lowers nothing", forecast=6),
    row(replace(QUICK, max_workers=5), (2, 2, 2), 5, "ScaleUp", "maxWorkers", "up to maxWorkers", forecast=6),
    row(ACTIVE, (0, 0, 0), 3, "ScaleUp", "forecast", "the forecast wakes", forecast=3),
    row(QUICK, (0, 0, 4), 3, "ScaleDown", "forecast", "and keeps an idle pool up", forecast=3),
]


@pytest.mark.parametrize(("policy", "load", "seen", "target", "reason", "clamp"), ROWS)
def test_what_a_pool_gets(
    policy: Policy, load: tuple[int, int, int], seen: dict[str, Any], target: int, reason: str, clamp: str
) -> None:
    decision = look(policy, *load, **seen)
    assert (decision.target, decision.reason, decision.clamp) == (target, reason, clamp), decision.message


SENTENCES = [
    (look(ACTIVE, 10, 0, 0), "10 waiting and 0 in flight need 10 workers; activationLag 10 keeps it at zero"),
    (
        look(QUICK, 9, 3, 5, unschedulable=2, unschedulable_why="0/3 nodes are available: insufficient cpu"),
        "6 waiting and 3 in flight need 9 workers; 2 pods find no node (0/3 nodes are available: insufficient cpu), "
        "so it stays at 5",
    ),
    (look(QUICK, 9, 3, 3, allowance=5, group="blue"), "6 waiting and 3 in flight need 9 workers; group blue allows 5"),
    (
        look(replace(QUICK, pause="Up"), 9, 1, 1),
        "8 waiting and 1 in flight need 9 workers; pause Up adds nothing to 1 worker",
    ),
    (
        look(replace(QUICK, max_workers=20), 420, 8, 8),
        "412 waiting and 8 in flight need 420 workers; maxWorkers allows 20",
    ),
    (look(WARM, 0, 0, 2), "nothing waits or runs; warmWorkers adds 2"),
    (
        look(replace(QUICK, scale_up=Behavior(select="Disabled")), 9, 1, 1),
        "8 waiting and 1 in flight need 9 workers; scaleUp is disabled, so it stays at 1",
    ),
]


@pytest.mark.parametrize(("decision", "message"), SENTENCES)
def test_every_refusal_stands_in_the_sentence(decision: Decision, message: str) -> None:
    assert decision.message == message


def test_a_shadow_says_so_in_its_inputs() -> None:
    assert look(replace(QUICK, shadow=True), 1, 1, 1).inputs["mode"] == "Shadow"


# ---- what holds always

SLOW = settings(max_examples=50)
counts = st.integers(0, 60)
rates = st.builds(RatePolicy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.sampled_from([5.0, 60.0]))
behaviors = st.builds(
    Behavior,
    st.sampled_from([0.0, 5.0, 60.0]),
    st.lists(rates, max_size=2).map(tuple),
    st.sampled_from(["Max", "Min", "Disabled"]),
    st.sampled_from([0.0, 0.1]),
)
schedules = st.builds(
    lambda start, length, low, high: Schedule(
        "s", f"0 {start} * * *", f"0 {(start + length) % 24} * * *", "Europe/Berlin", low, high
    ),
    st.integers(0, 23),
    st.integers(1, 23),
    st.none() | counts,
    st.none() | counts,
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    low = draw(counts)
    return Policy(
        min_workers=low,
        max_workers=low + draw(counts),
        slots=draw(st.integers(1, 8)),
        lag_per_slot=draw(st.none() | st.floats(0.2, 20)),
        latency=draw(st.none() | st.floats(0, 60)),
        utilization=draw(st.none() | st.floats(0.1, 1)),
        scale_up=draw(behaviors),
        scale_down=draw(behaviors),
        idle_after=draw(st.sampled_from([0.0, 15.0, 300.0])),
        activation=draw(st.sampled_from([0, 0, 5])),
        warm=draw(st.sampled_from([0, 0, 3])),
        schedules=tuple(draw(st.lists(schedules, max_size=2))),
        pause=draw(st.sampled_from(["None", "None", "Up", "Down"])),
    )


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """What can be seen, missing and contradictory things included; the workers are set by who plays it."""
    return Observation(
        lag=draw(st.none() | st.integers(-1, 200)),
        in_flight=draw(st.none() | st.integers(-1, 100)),
        current=0,
        wall=draw(st.floats(1.7e9, 1.8e9)),
        ready=draw(st.none() | counts),
        arrived=draw(st.none() | st.integers(0, 10_000)),
        service_seconds=draw(st.none() | st.floats(0, 100)),
        unschedulable=draw(st.sampled_from([0, 0, 0, 2])),
        allowance=draw(st.none() | counts),
        forecast=draw(st.none() | counts),
    )


looks = st.lists(st.tuples(st.floats(0.05, 40), observations()), min_size=1, max_size=15)


def play(policy: Policy, start: int, looks: list[tuple[float, Observation]]) -> list[tuple[Observation, Decision]]:
    memory, current, now, played = Memory(), start, 0.0, []
    for wait, seen in looks:
        now += wait
        seen = replace(seen, current=current)
        decision = decide(seen, policy, memory, now)
        memory, current = decision.memory, decision.target
        played.append((seen, decision))
    return played


HOLDS = {"doubt", "pause", "unschedulable"}


@SLOW
@given(policies(), counts, looks)
def test_whatever_is_seen_the_number_is_in_its_bounds_or_held_where_it_was(
    policy: Policy, start: int, looks: list[tuple[float, Observation]]
) -> None:
    for seen, decision in play(policy, start, looks):
        floor = int(decision.inputs.get("floor", policy.min_workers))
        ceiling = int(decision.inputs.get("ceiling", policy.max_workers))
        if decision.reason in ("LagUnknown", "Contradictory", "Paused", "Unschedulable", "HeartbeatsMissing"):
            if seen.lag is None or seen.lag < 0 or (seen.in_flight or 0) < 0:
                assert not decision.changes
        elif not any(step.rule in HOLDS and step.text for step in decision.steps):
            assert min(floor, ceiling) <= decision.target <= ceiling, decision.message
        assert decision.target >= 0


@SLOW
@given(policies(), counts, looks)
def test_the_steps_end_at_the_target_and_the_message_names_the_clamp(
    policy: Policy, start: int, looks: list[tuple[float, Observation]]
) -> None:
    for _, decision in play(policy, start, looks):
        assert decision.steps[-1].workers == decision.target
        assert decision.message
        if decision.clamp:
            told = [step for step in decision.steps if step.rule == decision.clamp and step.text]
            assert told
            assert told[-1].text in decision.message
        elif "needed" in decision.inputs:
            assert decision.target == decision.inputs["needed"]


@SLOW
@given(policies(), counts, looks)
def test_the_same_looks_give_the_same_decisions(
    policy: Policy, start: int, looks: list[tuple[float, Observation]]
) -> None:
    assert play(policy, start, looks) == play(policy, start, looks)


@SLOW
@given(policies(), counts, observations(), counts)
def test_a_forecast_never_lowers_anything(policy: Policy, current: int, seen: Observation, forecast: int) -> None:
    memory = Memory(seen=(0.0, current))
    without = decide(replace(seen, current=current, forecast=None), policy, memory, 1.0)
    assert decide(replace(seen, current=current, forecast=forecast), policy, memory, 1.0).target >= without.target


@SLOW
@given(policies(), counts, observations(), counts, st.integers(0, 100))
def test_a_longer_queue_never_gets_fewer_workers_under_any_rule(
    policy: Policy, current: int, seen: Observation, in_flight: int, more: int
) -> None:
    lag = max(in_flight, seen.lag or 0)
    memory = Memory(seen=(0.0, current), needs=((0.5, 7),), lows=((0.5, 3),))
    seen = replace(seen, lag=lag, in_flight=in_flight, current=current, ready=None)
    less = decide(seen, policy, memory, 1.0)
    assert decide(replace(seen, lag=lag + more), policy, memory, 1.0).target >= less.target


@SLOW
@given(policies(), counts, st.integers(0, 40), st.integers(0, 60), st.sampled_from([1.0, 15.0]))
def test_no_rules_together_make_a_constant_load_swing(
    policy: Policy, start: int, in_flight: int, waiting: int, tick: float
) -> None:
    """Bounds may first move it against the need (at once), then it goes one way; an idle pool rests at its floor."""
    seen = Observation(waiting + in_flight, in_flight, 0, wall=1.79e9, service_seconds=2.0)
    targets = [decision.target for _, decision in play(policy, start, [(tick, seen)] * 80)]
    turns = [b > a for a, b in pairwise(targets) if a != b]
    assert len(set(turns)) <= 1, targets


@SLOW
@given(policies(), counts)
def test_an_idle_pool_settles_at_its_floor_and_stays(policy: Policy, start: int) -> None:
    policy = replace(policy, pause="None", scale_down=replace(policy.scale_down, select="Max"))
    seen = Observation(0, 0, 0, wall=1.79e9, service_seconds=2.0, arrived=77)
    played = play(policy, start, [(20.0, seen)] * 150)
    floor = int(played[-1][1].inputs.get("floor", policy.min_workers))
    ceiling = int(played[-1][1].inputs.get("ceiling", policy.max_workers))
    assert {decision.target for _, decision in played[-20:]} <= {min(max(floor, policy.warm), ceiling)} or (
        policy.scale_up.select == "Disabled" and policy.warm
    ), [d.target for _, d in played]


def test_a_rate_limit_keeps_workers_away_that_could_only_wait_for_a_start() -> None:
    """10 starts a second of 2 s each keep 20 slots busy; with the spare 25, in workers of 4 slots 7."""
    policy = replace(QUICK, slots=4, rate=10.0)
    capped = look(policy, 500, 20, 5, service_seconds=2.0)
    assert (capped.target, capped.clamp) == (7, "rateLimit")
    assert "rateLimit 10/s keeps no more than 7 workers busy" in capped.message
    assert look(policy, 500, 28, 7, service_seconds=2.0).reason == "TaskRateLimited"
    # Without a service time nobody knows what the rate feeds; without a rate nothing is capped.
    assert look(policy, 500, 20, 5).target == look(replace(policy, rate=None), 500, 20, 5).target == 20
    assert look(policy, 3, 3, 1, service_seconds=0.001).target == 1
