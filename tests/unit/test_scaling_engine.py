"""How many workers a pool gets: timelines, and what holds for every timeline."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_scaling import Decision, Memory, Observation, Policy, decide
from millpond_scaling.model import Behavior, RatePolicy

QUICK = Policy(min_workers=0, max_workers=10, slots=1, scale_down=Behavior(stabilization=5.0), idle_after=15.0)


@dataclass(frozen=True)
class At:
    """What is seen at a moment, and what should come of it."""

    second: float
    lag: int | None
    in_flight: int | None
    target: int
    reason: str


def run(policy: Policy, start: int, timeline: list[At]) -> list[tuple[float, int, str]]:
    """The targets over time; what is decided is what runs at the next look."""
    memory, current, seen = Memory(), start, []
    for at in timeline:
        decision = decide(Observation(at.lag, at.in_flight, current), policy, memory, at.second)
        memory, current = decision.memory, decision.target
        seen.append((at.second, decision.target, decision.reason))
    return seen


TIMELINES = [
    pytest.param(QUICK, 0, [At(0, 3, 0, 3, "ScaleUp"), At(1, 3, 3, 3, "Steady")], id="0s burst of three → three"),
    pytest.param(
        Policy(slots=4, lag_per_slot=10),
        0,
        [At(0, 47, 7, 3, "ScaleUp")],
        id="7 in flight + 40 waiting, lagPerSlot 10, 4 slots → 3",
    ),
    pytest.param(
        QUICK,
        4,
        [
            At(0, 4, 4, 4, "Steady"),
            At(1, 1, 1, 4, "Stabilizing"),
            At(4.9, 1, 1, 4, "Stabilizing"),
            At(5, 1, 1, 1, "ScaleDown"),
        ],
        id="load falls at 1s → shrinks once the need of 4 is 5s old",
    ),
    pytest.param(
        QUICK,
        4,
        [
            At(0, 4, 4, 4, "Steady"),
            At(2, 1, 1, 4, "Stabilizing"),
            At(4, 4, 4, 4, "Steady"),
            At(6, 1, 1, 4, "Stabilizing"),
            At(8.5, 1, 1, 4, "Stabilizing"),
            At(9.5, 1, 1, 1, "ScaleDown"),
        ],
        id="a gap of 2s stops nobody",
    ),
    pytest.param(
        QUICK,
        1,
        [
            At(0, 0, 0, 1, "Stabilizing"),
            At(10, 0, 0, 1, "Stabilizing"),
            At(14.9, 0, 0, 1, "Stabilizing"),
            At(15, 0, 0, 0, "ScaleDown"),
        ],
        id="empty since 0s → the last worker goes at idleAfter 15s",
    ),
    pytest.param(
        QUICK,
        3,
        [At(0, 0, 0, 3, "Stabilizing"), At(6, 0, 0, 1, "ScaleDown"), At(15, 0, 0, 0, "ScaleDown")],
        id="empty queue → one worker stays until idleAfter, the others go after stabilization",
    ),
    pytest.param(
        QUICK,
        1,
        [At(0, 0, 0, 1, "Stabilizing"), At(14, 1, 0, 1, "Steady"), At(16, 0, 0, 1, "Stabilizing")],
        id="a task at 14s starts idleAfter anew",
    ),
    pytest.param(
        Policy(min_workers=2, max_workers=4),
        0,
        [At(0, 0, 0, 2, "ScaleUp"), At(1, 99, 0, 4, "ScaleUp")],
        id="min 2, max 4",
    ),
    pytest.param(
        Policy(max_workers=2), 5, [At(0, 9, 5, 2, "ScaleDown")], id="maxWorkers lowered below what runs → down at once"
    ),
    pytest.param(
        QUICK,
        3,
        [At(0, None, None, 3, "LagUnknown"), At(60, None, 0, 3, "LagUnknown"), At(61, None, 9, 3, "LagUnknown")],
        id="NATS silent for a minute → nothing changes",
    ),
    pytest.param(
        QUICK,
        3,
        [At(0, 0, None, 3, "HeartbeatsMissing"), At(60, 1, None, 3, "HeartbeatsMissing")],
        id="heartbeats silent → nothing is taken away",
    ),
    pytest.param(
        QUICK, 1, [At(0, 5, None, 5, "HeartbeatsMissing")], id="heartbeats silent and a long queue → only more workers"
    ),
    pytest.param(
        Policy(pause="All", max_workers=9),
        2,
        [At(0, 50, 2, 2, "Paused"), At(99, 0, 0, 2, "Paused")],
        id="paused → held",
    ),
    pytest.param(
        Policy(manual=3, max_workers=2),
        1,
        [At(0, 0, 0, 3, "Manual"), At(9, 99, 3, 3, "Manual"), At(10, None, None, 3, "Manual")],
        id="kubectl scale 3 → three, whatever the queue or maxWorkers say",
    ),
    pytest.param(Policy(manual=0, pause="All"), 4, [At(0, 9, 4, 0, "Manual")], id="kubectl scale 0 wins over paused"),
]


@pytest.mark.parametrize(("policy", "start", "timeline"), TIMELINES)
def test_the_timeline(policy: Policy, start: int, timeline: list[At]) -> None:
    assert run(policy, start, timeline) == [(at.second, at.target, at.reason) for at in timeline]


def test_without_a_deployment_nothing_is_decided() -> None:
    decision = decide(Observation(5, 0, None), QUICK, Memory(), 0.0)
    assert (decision.reason, decision.changes) == ("NoDeployment", False)


def test_a_new_leader_takes_nothing_away_before_its_own_window_has_passed() -> None:
    first = decide(Observation(1, 1, 6), QUICK, Memory(), 1000.0)
    assert first.target == 6
    later = decide(Observation(1, 1, 6), QUICK, first.memory, 1005.5)
    assert later.target == 1


def test_the_sentence_names_the_bound_that_changed_the_number() -> None:
    decision = decide(Observation(50, 0, 0), Policy(max_workers=4), Memory(), 0.0)
    assert decision.message == "50 waiting and 0 in flight need 50 workers; maxWorkers allows 4"
    assert decision.clamp == "maxWorkers"
    assert decision.inputs["lag"] == 50


def test_every_rule_leaves_a_step_and_the_message_is_made_of_those_that_mattered() -> None:
    policy = Policy(
        max_workers=20, lag_per_slot=10, slots=1, warm=3, scale_up=Behavior(policies=(RatePolicy("Pods", 30, 60),))
    )
    decision = decide(Observation(420, 8, 5), policy, Memory(seen=(0.0, 5)), 1.0)
    assert [(step.rule, step.workers) for step in decision.steps] == [
        ("lagPerSlot", 50),
        ("warmWorkers", 53),
        ("scaleUp.stabilization", 53),
        ("idleAfter", 53),
        ("scaleUp.policies", 35),
        ("minWorkers", 35),
        ("maxWorkers", 20),
    ]
    assert decision.message == (
        "412 waiting and 8 in flight need 50 workers; warmWorkers adds 3; scaleUp.policies allow 35 workers for now; "
        "maxWorkers allows 20"
    )
    assert (decision.target, decision.clamp) == (20, "maxWorkers")


def test_what_is_needed_and_given_has_no_clamp_and_one_clause() -> None:
    decision = decide(Observation(4, 3, 4), QUICK, Memory(seen=(0.0, 4)), 1.0)
    assert (decision.message, decision.clamp) == ("1 waiting and 3 in flight need 4 workers", "")


# ---- what holds always

SLOW = settings(max_examples=60)
"""The machine is shared: a deadline would measure the others."""

counts = st.integers(0, 500)
policies = st.builds(
    lambda low, more, slots, lag, window, idle: Policy(
        low, low + more, slots, lag, scale_down=Behavior(window), idle_after=idle
    ),
    st.integers(0, 20),
    st.integers(0, 50),
    st.integers(1, 16),
    st.floats(0.1, 50),
    st.floats(0, 60),
    st.floats(0, 120),
)
looks = st.lists(
    st.tuples(st.floats(0.05, 30), st.none() | counts, st.none() | st.integers(0, 80)), min_size=1, max_size=25
)


def follow(policy: Policy, start: int, steps: list[tuple[float, int | None, int | None]]) -> list[Decision]:
    memory, current, now, decisions = Memory(), start, 0.0, []
    for wait, lag, in_flight in steps:
        now += wait
        decision = decide(Observation(lag, in_flight, current), policy, memory, now)
        memory, current = decision.memory, decision.target
        decisions.append(decision)
    return decisions


@SLOW
@given(policies, st.integers(0, 100), looks)
def test_what_the_scaler_chooses_lies_within_the_bounds(
    policy: Policy, start: int, steps: list[tuple[float, int | None, int | None]]
) -> None:
    for decision in follow(policy, start, steps):
        if decision.reason in ("ScaleUp", "ScaleDown", "Steady"):
            assert policy.min_workers <= decision.target <= policy.max_workers
        else:
            # Held: it keeps what is there, even outside of bounds that have just changed.
            assert decision.target >= min(decision.current, policy.max_workers)


@SLOW
@given(policies, st.integers(0, 100), looks)
def test_missing_data_takes_no_worker_away_and_an_unknown_lag_changes_nothing(
    policy: Policy, start: int, steps: list[tuple[float, int | None, int | None]]
) -> None:
    for decision, (_, lag, in_flight) in zip(follow(policy, start, steps), steps, strict=True):
        if lag is None:
            assert not decision.changes
        elif in_flight is None:
            assert decision.target >= decision.current


@SLOW
@given(policies, counts, counts, st.integers(0, 40), st.integers(0, 60))
def test_a_longer_queue_never_gets_fewer_workers(
    policy: Policy, waiting: int, more: int, in_flight: int, current: int
) -> None:
    # More in flight than in the queue contradicts itself and is held: another property's matter.
    lag = in_flight + waiting
    less = decide(Observation(lag, in_flight, current), policy, Memory(), 0.0)
    longer = decide(Observation(lag + more, in_flight, current), policy, Memory(), 0.0)
    assert longer.target >= less.target


@SLOW
@given(policies, counts, st.integers(0, 40), st.integers(0, 60), st.floats(0.05, 10))
def test_a_constant_load_settles_after_at_most_two_changes_and_stays(
    policy: Policy, lag: int, in_flight: int, start: int, tick: float
) -> None:
    horizon = int((policy.scale_down.stabilization + policy.idle_after) / tick) + 5
    decisions = follow(policy, start, [(tick, lag, in_flight)] * min(horizon, 3000))
    targets = [start, *(decision.target for decision in decisions)]
    changes = [(a, b) for a, b in pairwise(targets) if a != b]
    # One to what is needed; an empty queue goes down once more, when its last worker has rested for idle_after.
    assert len(changes) <= 2, changes
    assert len({b > a for a, b in changes}) <= 1, f"up and down under a constant load: {changes}"


@SLOW
@given(policies, st.integers(0, 100), looks)
def test_tasks_in_flight_always_keep_their_slots(
    policy: Policy, start: int, steps: list[tuple[float, int | None, int | None]]
) -> None:
    for decision, (_, lag, in_flight) in zip(follow(policy, start, steps), steps, strict=True):
        if lag is not None and in_flight is not None and decision.target < decision.current:
            assert decision.target * policy.slots >= min(in_flight, policy.max_workers * policy.slots)
