"""Tolerance, windows and rate policies: what an HPA does, case by case, and what holds for every case.

Ids name the case of Kubernetes' own tests (pkg/controller/podautoscaler, horizontal_test.go and
replica_calculator_test.go) or the section of its documentation ("Horizontal Pod Autoscaling") that a row comes from.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_scaling import Decision, Memory, Observation, Policy, decide
from millpond_scaling.model import Behavior, RatePolicy

HOUR = 10_000.0
"""The present of the tables, far enough from 0 for every window."""


def rules(pods: int = 0, pods_period: float = 60, percent: int = 0, percent_period: float = 60) -> Behavior:
    """HPA's generateScalingRules: policies of both types, selectPolicy Max, no window."""
    policies = [RatePolicy("Pods", pods, pods_period)] if pods else []
    policies += [RatePolicy("Percent", percent, percent_period)] if percent else []
    return Behavior(policies=tuple(policies))


def spread(events: list[int], seconds: float) -> tuple[tuple[float, int], ...]:
    """HPA's generateEventsUniformDistribution: each event in the middle of its share of the last seconds."""
    share = seconds / len(events)
    return tuple((HOUR - int(seconds - share * (i + 1) + share / 2), n) for i, n in enumerate(events))


def removed(events: list[int], seconds: float) -> tuple[tuple[float, int], ...]:
    return tuple((at, -n) for at, n in spread(events, seconds))


def step(need: int, current: int, policy: Policy, memory: Memory | None = None) -> Decision:
    """One look at a busy pool of one slot a worker that needs `need`; the memory is of one who has looked before."""
    memory = memory or Memory(seen=(HOUR - 1, current))
    return decide(Observation(need, need if need else 0, current), policy, memory, HOUR)


def bounded(low: int, high: int, **behaviors: Behavior) -> Policy:
    return Policy(low, high, idle_after=0.0, **({"scale_down": Behavior()} | behaviors))  # type: ignore[arg-type]


R = "TestScalingWithRules: "
RATES = [
    pytest.param(bounded(3, 8), (), 5, 7, 7, "", id=R + "prenormalized desired replicas within range"),
    pytest.param(bounded(2, 8), (), 3, 1, 2, "minWorkers", id=R + "prenormalized desired replicas < minReplicas"),
    pytest.param(bounded(0, 10), (), 1, 0, 0, "", id=R + "within range when minReplicas is 0"),
    pytest.param(bounded(1, 10), (), 20, 1000, 10, "maxWorkers", id=R + "maxReplicas < scaleUpLimit"),
    pytest.param(bounded(100, 150), (), 100, 1000, 150, "maxWorkers", id=R + "desired is more than the maximum"),
    pytest.param(
        bounded(1, 2000, scale_up=rules(percent=1)),
        (),
        3,
        1000,
        4,
        "scaleUp.policies",
        id=R + "scaleUpLimit < maxReplicas",
    ),
    pytest.param(
        bounded(3, 2000, scale_down=rules(20)),
        (),
        1000,
        3,
        980,
        "scaleDown.policies",
        id=R + "scaleDownLimit > minReplicas",
    ),
    pytest.param(
        bounded(1, 1000, scale_up=rules(4, 15, 100, 15)), (), 10, 50, 20, "scaleUp.policies", id=R + "default behavior"
    ),
    pytest.param(
        bounded(1, 1000, scale_up=rules(100, 60, 100)),
        (),
        10,
        500,
        110,
        "scaleUp.policies",
        id=R + "up: pods > percent",
    ),
    pytest.param(
        bounded(1, 1000, scale_up=rules(2, 60, 100)), (), 10, 500, 20, "scaleUp.policies", id=R + "up: percent > pods"
    ),
    pytest.param(bounded(1, 1000, scale_up=rules(100)), (), 10, 50, 50, "", id=R + "up: large pod policy"),
    pytest.param(bounded(1, 1000, scale_up=rules(10000)), (), 10, 50, 50, "", id=R + "up: large percent policy"),
    pytest.param(bounded(1, 1000, scale_up=rules(30)), (), 10, 50, 40, "scaleUp.policies", id=R + "up: pod policy"),
    pytest.param(
        bounded(1, 1000, scale_up=rules(percent=200)), (), 10, 50, 30, "scaleUp.policies", id=R + "up: percent policy"
    ),
    pytest.param(
        bounded(1, 1000, scale_down=rules(20, 60, 1)),
        (),
        100,
        2,
        80,
        "scaleDown.policies",
        id=R + "down: pods > percent",
    ),
    pytest.param(
        bounded(1, 1000, scale_down=rules(2, 60, 1)),
        (),
        100,
        2,
        98,
        "scaleDown.policies",
        id=R + "down: pods 2, percent 1",
    ),
    pytest.param(bounded(1, 1000, scale_down=rules(100)), (), 10, 0, 1, "minWorkers", id=R + "down: MinReplicas, pods"),
    pytest.param(
        bounded(5, 1000, scale_down=rules(percent=100)), (), 10, 2, 5, "minWorkers", id=R + "down: MinReplicas, percent"
    ),
    pytest.param(bounded(1, 1000, scale_down=rules(5)), (), 10, 2, 5, "scaleDown.policies", id=R + "down: pod policy"),
    pytest.param(bounded(1, 1000, scale_down=rules(percent=50)), (), 10, 5, 5, "", id=R + "down: percent policy"),
    pytest.param(
        bounded(1, 200, scale_up=rules(300)),
        spread([1, 5, 9], 120),
        100,
        500,
        200,
        "maxWorkers",
        id=R + "up: MaxReplicas, pods, events",
    ),
    pytest.param(
        bounded(1, 200, scale_up=rules(percent=10000)),
        spread([1, 5, 9], 120),
        100,
        500,
        200,
        "maxWorkers",
        id=R + "up: MaxReplicas, percent, events",
    ),
    pytest.param(
        bounded(1, 1000, scale_up=rules(5, 120)),
        spread([1, 5, 9], 120),
        100,
        500,
        100,
        "scaleUp.policies",
        id=R + "up: a lot of recent scale up events (100 - 15 + 5 < 100)",
    ),
    pytest.param(
        bounded(1, 1000, scale_up=rules(150, 120)),
        spread([1, 5, 9], 120),
        100,
        500,
        235,
        "scaleUp.policies",
        id=R + "up: pod policy and events (100 - 15 + 150)",
    ),
    pytest.param(
        bounded(1, 1000, scale_up=rules(percent=200, percent_period=120)),
        spread([1, 5, 9], 120),
        100,
        500,
        255,
        "scaleUp.policies",
        id=R + "up: percent policy and events ((100 - 15) + 200%)",
    ),
    pytest.param(
        bounded(1, 1000, scale_up=rules(percent=300, percent_period=300)),
        (*spread([4], 120), *removed([2], 120)),
        6,
        24,
        16,
        "scaleUp.policies",
        id=R + "up: percent policy and previous up and down events",
    ),
    pytest.param(bounded(1, 1000), removed([1, 5, 9], 120), 10, 5, 5, "", id=R + "down: default policy and events"),
    pytest.param(
        bounded(1, 1000, scale_down=rules(115, 120)),
        removed([1, 5, 9], 120),
        100,
        0,
        1,
        "minWorkers",
        id=R + "down: MinReplicas=nil, pods, events",
    ),
    pytest.param(
        bounded(5, 1000, scale_down=rules(percent=100, percent_period=120)),
        removed([1, 5, 9], 120),
        100,
        2,
        5,
        "minWorkers",
        id=R + "down: MinReplicas, percent, events",
    ),
    pytest.param(
        bounded(1, 1000, scale_down=rules(5, 120)),
        removed([1, 5, 9], 120),
        100,
        2,
        100,
        "scaleDown.policies",
        id=R + "down: pod policy and events (100 + 15 - 5)",
    ),
    pytest.param(
        bounded(1, 1000, scale_down=rules(percent=50, percent_period=120)),
        removed([2, 4, 6], 120),
        100,
        0,
        56,
        "scaleDown.policies",
        id=R + "down: percent policy and events ((100 + 12) - 50%)",
    ),
    pytest.param(
        bounded(1, 1000, scale_down=rules(percent=50, percent_period=180)),
        (*spread([2], 120), *removed([4], 120)),
        10,
        1,
        6,
        "scaleDown.policies",
        id=R + "down: percent policy and previous up and down events",
    ),
    pytest.param(
        bounded(1, 1000, scale_down=rules(percent=10, percent_period=120)),
        removed([10, 10, 10], 120),
        100,
        0,
        100,
        "scaleDown.policies",
        id=R + "down: previous events prevent it ((100 + 30) - 10% > 100)",
    ),
    pytest.param(
        bounded(1, 1000, scale_down=rules(percent=1000, percent_period=120)),
        removed([10, 10, 10], 120),
        10,
        5,
        5,
        "",
        id=R + "down: previous events still allow more (below zero)",
    ),
    pytest.param(
        bounded(1, 1000, scale_up=rules(1000, 60)),
        spread([8, 12, 9, 11], 120),
        100,
        200,
        200,
        "",
        id=R + "'outdated' flag for one behavior for up",
    ),
    pytest.param(
        bounded(1, 1000, scale_down=rules(1000, 30, 100, 60)),
        removed([8, 12, 9, 11], 120),
        100,
        5,
        5,
        "",
        id=R + "'outdated' for two policies for down",
    ),
    pytest.param(
        bounded(0, 100, scale_up=replace(rules(2, 60, 50), select="Min")),
        (),
        1,
        50,
        2,
        "scaleUp.policies",
        id="TestCalculateScaleUpLimitWithScalingRules: Min",
    ),
    pytest.param(
        bounded(0, 100, scale_down=replace(rules(2, 60, 50), select="Min")),
        (),
        5,
        0,
        3,
        "scaleDown.policies",
        id="TestCalculateScaleDownLimitWithBehaviors: Min",
    ),
    pytest.param(
        bounded(0, 100, scale_up=Behavior(select="Disabled")),
        (),
        5,
        50,
        5,
        "scaleUp.policies",
        id="docs: selectPolicy up",
    ),
    pytest.param(
        bounded(0, 100, scale_down=Behavior(select="Disabled")),
        (),
        5,
        1,
        5,
        "scaleDown.policies",
        id="docs: selectPolicy Disabled turns scaling down off",
    ),
    pytest.param(
        bounded(0, 200, scale_down=rules(4, 60, 10)),
        (),
        80,
        0,
        72,
        "scaleDown.policies",
        id="docs: 80, 4 pods or 10% → 72",
    ),
    pytest.param(
        bounded(0, 200, scale_down=rules(4, 60, 10)),
        (),
        72,
        0,
        64,
        "scaleDown.policies",
        id="docs: 72, 10% of 72 is rounded up to 8 → 64",
    ),
    pytest.param(
        bounded(0, 200, scale_down=rules(4, 60, 10)),
        (),
        30,
        0,
        26,
        "scaleDown.policies",
        id="docs: 30, 4 pods win → 26",
    ),
    pytest.param(
        bounded(0, 100, scale_up=rules(percent=10)),
        (),
        10,
        50,
        11,
        "scaleUp.policies",
        id="ours: 10 + 10% = 11, not 12",
    ),
    pytest.param(
        bounded(0, 100, scale_up=rules(percent=50)),
        (),
        0,
        50,
        1,
        "scaleUp.policies",
        id="ours: per cent of zero is one",
    ),
    pytest.param(bounded(0, 9, scale_up=rules(4)), (), 0, 50, 4, "scaleUp.policies", id="ours: pods from zero"),
    pytest.param(
        bounded(8, 20, scale_up=rules(1)),
        (),
        0,
        50,
        8,
        "minWorkers",
        id="reconcileAutoscaler: below minReplicas → at once",
    ),
    pytest.param(
        bounded(1, 5, scale_down=rules(1)),
        (),
        9,
        0,
        5,
        "maxWorkers",
        id="TestScaleDownRCImmediately: above maxReplicas → at once",
    ),
]


@pytest.mark.parametrize(("policy", "changes", "current", "need", "target", "clamp"), RATES)
def test_rate_policies_allow_what_an_hpa_allows(
    policy: Policy, changes: tuple[tuple[float, int], ...], current: int, need: int, target: int, clamp: str
) -> None:
    decision = step(need, current, policy, Memory(seen=(HOUR - 1, current), changes=changes))
    assert (decision.target, decision.clamp) == (target, clamp), decision.message


N = "TestNormalizeDesiredReplicasWithBehavior: "
MINUTES = 60.0


def windows(up: float, down: float) -> Policy:
    return bounded(0, 1000, scale_up=Behavior(up), scale_down=Behavior(down))


WINDOWS = [
    pytest.param(windows(0, 0), [], 100, 5, 5, id=N + "empty recommendations for scaling down"),
    pytest.param(windows(0, 180), [(2, 4), (1, 5)], 100, 3, 5, id=N + "simple scale down stabilization"),
    pytest.param(windows(300, 0), [(2, 4), (1, 5)], 1, 7, 4, id=N + "simple scale up stabilization"),
    pytest.param(windows(300, 0), [(2, 1), (1, 2)], 100, 3, 3, id=N + "no scale down stabilization"),
    pytest.param(windows(0, 300), [(2, 4), (1, 5)], 1, 3, 3, id=N + "no scale up stabilization"),
    pytest.param(windows(0, 0), [(10, 10), (9, 9)], 100, 3, 3, id=N + "no down, reuse recommendation element"),
    pytest.param(windows(0, 0), [(10, 10), (9, 9)], 1, 100, 100, id=N + "no up, reuse recommendation element"),
    pytest.param(windows(0, 180), [(10, 10), (9, 9), (2, 5), (1, 4)], 100, 3, 5, id=N + "down, obsolete elements"),
    pytest.param(windows(300, 0), [(100, 10), (3, 9), (2, 5), (1, 6)], 1, 100, 5, id=N + "up, obsolete elements"),
    pytest.param(windows(300, 300), [(100, 2), (3, 3)], 2, 1, 2, id=N + "do not scale up when the rec goes down"),
    pytest.param(windows(300, 300), [(100, 2), (3, 1)], 2, 3, 2, id=N + "do not scale down when the rec goes up"),
    pytest.param(windows(0, 300), [(10, 10), (1, 4)], 4, 2, 4, id="TestStabilizeDownscale"),
    pytest.param(windows(0, 300), [(2, 4), (1, 5)], 9, 3, 5, id="TestNormalizeDesiredReplicas: stabilize"),
    pytest.param(windows(0, 300), [(2, 1), (1, 2)], 9, 3, 3, id="TestNormalizeDesiredReplicas: no stabilize"),
    pytest.param(windows(300, 0), [(5, 1)], 1, 9, 9, id="After(cutoff): as old as the window is out of it, up"),
    pytest.param(windows(0, 300), [(5, 9)], 9, 3, 3, id="After(cutoff): as old as the window is out of it"),
]


@pytest.mark.parametrize(("policy", "needs", "current", "need", "target"), WINDOWS)
def test_windows_hold_as_an_hpa_holds(
    policy: Policy, needs: list[tuple[float, int]], current: int, need: int, target: int
) -> None:
    """`needs` are (minutes ago, workers needed), looked at while `current` ran."""
    memory = Memory(seen=(HOUR - 100 * MINUTES, current))
    for ago, known in needs:
        memory = decide(Observation(known, known, current), policy, memory, HOUR - ago * MINUTES).memory
    assert step(need, current, policy, memory).target == target


def tolerant(down: float, up: float) -> Policy:
    return bounded(0, 100, scale_up=Behavior(tolerance=up), scale_down=Behavior(tolerance=down))


TOLERANCES = [
    pytest.param(tolerant(0.1, 0.1), 10, 10.9, 10, id="docs: within 10% above → nothing"),
    pytest.param(tolerant(0.1, 0.1), 10, 11.2, 12, id="docs: more than 10% above"),
    pytest.param(tolerant(0.1, 0.1), 10, 9.1, 10, id="docs: within 10% below → nothing"),
    pytest.param(tolerant(0.1, 0.1), 10, 8.9, 9, id="docs: more than 10% below"),
    pytest.param(tolerant(0.05, 0.0), 90, 86, 90, id="docs: tolerance of scaleDown alone (5%)"),
    pytest.param(tolerant(0.05, 0.0), 90, 91, 91, id="docs: scaleUp without tolerance"),
    pytest.param(tolerant(0.1, 0.1), 0, 0.5, 1, id="no ratio at zero → it wakes"),
    pytest.param(tolerant(1.0, 1.0), 2, 0.0, 0, id="an empty pool is not close to its workers"),
    pytest.param(tolerant(0.0, 0.0), 10, 9.5, 10, id="TestReplicaCalcScaleDown: ceil without tolerance"),
]


@pytest.mark.parametrize(("policy", "current", "raw", "target"), TOLERANCES)
def test_tolerance_leaves_what_is_close_enough(policy: Policy, current: int, raw: float, target: int) -> None:
    policy = replace(policy, slots=10)
    decision = decide(Observation(round(raw * 10), round(raw * 10), current), policy, Memory(seen=(0.0, current)), HOUR)
    assert decision.target == target, decision.message


def test_a_new_leader_counts_what_runs_as_needed_until_both_windows_have_passed() -> None:
    policy = windows(10, 10)
    for lag in (1, 50):
        first = decide(Observation(lag, 0, 6), policy, Memory(), HOUR)
        assert first.target == 6, first.message
        assert decide(Observation(lag, 0, 6), policy, first.memory, HOUR + 10).target == lag


def test_a_drain_that_takes_long_counts_once_against_the_policy() -> None:
    """The decision stands over many looks until the workers are gone; HPA's events would count it at every look."""
    policy = bounded(0, 100, scale_down=rules(5, 60))
    memory, now = Memory(seen=(HOUR, 20)), HOUR
    for current in (20, 20, 20, 18, 18, 15, 15, 15):
        now += 1
        decision = decide(Observation(0, 0, current), policy, memory, now)
        memory = decision.memory
        assert decision.target == 15, decision.message
    assert memory.changes == ((HOUR + 3, -2), (HOUR + 5, -3))
    assert decide(Observation(0, 0, 15), policy, memory, HOUR + 70).target == 10


# ---- what holds always

SLOW = settings(max_examples=60)
"""The machine is shared: a deadline would measure the others."""

rate = st.builds(
    RatePolicy,
    st.sampled_from(["Pods", "Percent"]),
    st.integers(1, 300),
    st.sampled_from([0.0, 5.0, 15.0, 60.0, 600.0]),
)
behaviors = st.builds(
    Behavior,
    st.sampled_from([0.0, 3.0, 30.0, 300.0]),
    st.lists(rate, max_size=3).map(tuple),
    st.sampled_from(["Max", "Min", "Disabled"]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
needs = st.lists(st.tuples(st.sampled_from([0.1, 1.0, 5.0, 40.0]), st.integers(0, 60)), min_size=1, max_size=30)


def play(policy: Policy, start: int, needs: list[tuple[float, int]]) -> list[tuple[float, Decision]]:
    """Each decision is carried out at once; every task is in flight, so that the need is the lag."""
    memory, current, now, seen = Memory(), start, 0.0, []
    for wait, need in needs:
        now += wait
        decision = decide(Observation(need, min(need, current), current), policy, memory, now)
        memory, current = decision.memory, decision.target
        seen.append((now, decision))
    return seen


@SLOW
@given(rate, rate, st.integers(0, 40), needs)
def test_no_window_of_a_rate_policy_ever_sees_more_than_it_allows(
    up: RatePolicy, down: RatePolicy, start: int, needs: list[tuple[float, int]]
) -> None:
    policy = bounded(0, 1000, scale_up=Behavior(policies=(up,)), scale_down=Behavior(policies=(down,)))
    seen = play(policy, start, needs)
    for index, (now, decision) in enumerate(seen):
        for one, sign in ((up, 1), (down, -1)):
            if (decision.target - decision.current) * sign <= 0:
                continue
            inside = [d.current for at, d in seen[:index] if now - at < one.period]
            before = inside[0] if inside else decision.current
            share = one.value if one.type == "Pods" else -(-before * one.value // 100)
            allowed = max(1, before + share) if sign > 0 else max(0, before - share)
            assert decision.target * sign <= max(allowed * sign, decision.current * sign)


@SLOW
@given(behaviors, behaviors, st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.1, 1.0, 7.0]))
def test_under_a_constant_need_the_number_never_turns_around(
    up: Behavior, down: Behavior, start: int, need: int, tick: float
) -> None:
    policy = bounded(0, 1000, scale_up=up, scale_down=down)
    targets = [start, *(d.target for _, d in play(policy, start, [(tick, need)] * 60))]
    assert len({b > a for a, b in pairwise(targets) if a != b}) <= 1, targets


@SLOW
@given(behaviors, behaviors, st.integers(0, 60), needs)
def test_the_memory_stays_small_however_long_the_windows_are(
    up: Behavior, down: Behavior, start: int, needs: list[tuple[float, int]]
) -> None:
    policy = bounded(
        0, 1000, scale_up=replace(up, stabilization=3600.0), scale_down=replace(down, stabilization=3600.0)
    )
    ramp = [(0.5, n % 200) for n in range(150)]
    for _, decision in play(policy, start, needs + ramp):
        memory = decision.memory
        assert max(len(memory.needs), len(memory.lows), len(memory.changes)) <= 64


@pytest.mark.parametrize("sign", [1, -1], ids=["scaleDown", "scaleUp"])
def test_a_window_whose_entries_were_merged_never_holds_for_less_than_its_time(sign: int) -> None:
    """A ramp leaves more entries than are kept; at every later moment the number is held as by all of them."""
    policy = bounded(0, 10_000, scale_up=Behavior(600), scale_down=Behavior(600))
    ramp = [(float(second), 2000 - sign * 2 * second) for second in range(500)]
    memory, current = Memory(seen=(-1.0, 2000 + sign * 500)), 2000 + sign * 500
    for now, need in ramp:
        memory = decide(Observation(need, need, current), policy, memory, now).memory
    for now in range(510, 1100, 7):
        exact = [need * sign for at, need in ramp if now - at < 600]
        held = decide(Observation(0 if sign > 0 else 5000, 0, current), policy, memory, float(now)).target
        assert held * sign >= max(exact)
        assert held * sign <= max(exact) + 2 * (600 / 32 + 1), "merged too coarsely"
