"""What the queue needs: lagPerSlot, latency and utilization, and the arrival rates that latency is reckoned from."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_scaling import ClassLoad, Memory, Observation, Policy, decide
from millpond_scaling.rates import arrivals, update
from millpond_scaling.targets import Load, highest_need


def load(waiting: int, in_flight: int = 0, rate: float = 0.0, service: float | None = None) -> Load:
    seen = Observation(waiting + in_flight, in_flight, 1, service_seconds=service)
    return Load(waiting, in_flight, seen, (("", 0.0, 0, rate),))


NEEDS = [
    pytest.param(Policy(), load(3, 2), 5, "lagPerSlot", id="no target: lagPerSlot 1, a slot for each task"),
    pytest.param(
        Policy(slots=4, lag_per_slot=10), load(40, 7), 3, "lagPerSlot", id="7 in flight + 40 / 10, 4 slots → 2.75 → 3"
    ),
    pytest.param(Policy(lag_per_slot=10), load(1), 1, "lagPerSlot", id="one waiting task needs a worker"),
    pytest.param(Policy(lag_per_slot=0.5), load(3), 6, "lagPerSlot", id="lagPerSlot 0.5: two slots for each"),
    pytest.param(Policy(latency=10), load(0, 0, 5, 2), 10, "latency", id="Little: 5/s x 2 s keep 10 slots busy"),
    pytest.param(Policy(latency=10), load(100, 0, 0, 1), 10, "latency", id="100 waiting within 10 s at 1 s each → 10"),
    pytest.param(Policy(latency=10, slots=4), load(100, 0, 5, 1), 4, "latency", id="(5 + 100/10) x 1 / 4 = 3.75 → 4"),
    pytest.param(Policy(latency=10), load(10, 0, 0, 60), 10, "latency", id="long tasks: one slot each, not 10/10 x 60"),
    pytest.param(
        Policy(latency=10), load(10, 6, 0, 60), 15, "latency", id="of 6 busy for a minute 5 stay busy: 10 + 5"
    ),
    pytest.param(Policy(latency=10), load(0, 60, 1, 60), 60, "latency", id="long tasks in balance: rate x service"),
    pytest.param(Policy(latency=60), load(1, 30, 0, 1), 30, "latency", id="never less than what is in flight"),
    pytest.param(Policy(latency=60), load(1, 0, 0, 0.0), 1, "latency", id="tasks of no length still need a worker"),
    pytest.param(Policy(latency=1e9), load(1, 0, 0, 0.001), 1, "latency", id="waiting for ever still needs a worker"),
    pytest.param(Policy(latency=0.0), load(5, 3, 9, 2), 8, "latency", id="latency 0: a slot for each, at once"),
    pytest.param(Policy(latency=10), load(7, 2, 5), 9, "latency", id="no service time yet: lagPerSlot 1"),
    pytest.param(Policy(utilization=0.8), load(0, 8), 10, "utilization", id="8 busy at 80 % → 10"),
    pytest.param(Policy(utilization=0.5, slots=4), load(4, 4), 4, "utilization", id="(4 + 4) / 0.5 / 4 → 4"),
    pytest.param(
        Policy(lag_per_slot=10, latency=5, utilization=0.5),
        load(50, 10, 0, 1),
        120,
        "utilization",
        id="several: the highest need wins (HPA with several metrics)",
    ),
    pytest.param(Policy(lag_per_slot=1, latency=5), load(50, 0, 0, 1), 50, "lagPerSlot", id="several: lagPerSlot here"),
]


@pytest.mark.parametrize(("policy", "load", "workers", "rule"), NEEDS)
def test_the_need(policy: Policy, load: Load, workers: int, rule: str) -> None:
    need = highest_need(load, policy)
    assert (need.workers, need.rule) == (workers, rule)


CLASSES = [
    pytest.param(
        (ClassLoad("high", 10, 0, 1.0), ClassLoad("low", 100, 0, 0.1)),
        110,
        0,
        (("high", 0.0, 0, 2.0), ("low", 0.0, 0, 10.0)),
        5,
        id="(2 + 10/10) x 1 + (10 + 100/10) x 0.1 = 5",
    ),
    pytest.param(
        (ClassLoad("a", 10, 0, 1.0), ClassLoad("new", 3, 0, None)),
        13,
        0,
        (),
        4,
        id="a class without a time: a slot each",
    ),
    pytest.param((ClassLoad("a", 10, 0, 1.0),), 40, 10, (), 30, id="what waits in no class has no time of its own"),
    pytest.param(
        (ClassLoad("quick", 0, 0, 1.0), ClassLoad("slow", 5, 0, 100.0)),
        5 + 20,
        20,
        (("quick", 0.0, 0, 10.0), ("slow", 0.0, 0, 0.1)),
        25,
        id="of 20 in flight half is slow and 90% of it stays: 10 + 5 + 0.1 x 10 + 9",
    ),
]


@pytest.mark.parametrize(("classes", "lag", "in_flight", "rates", "workers"), CLASSES)
def test_the_need_of_several_classes_is_their_sum(
    classes: tuple[ClassLoad, ...],
    lag: int,
    in_flight: int,
    rates: tuple[tuple[str, float, int, float], ...],
    workers: int,
) -> None:
    seen = Observation(lag, in_flight, 30, classes=classes)
    assert highest_need(Load(lag - in_flight, in_flight, seen, rates), Policy(latency=10)).workers == workers


def test_an_unknown_service_time_is_said() -> None:
    seen = Observation(7, 2, 0, arrived=7)
    message = decide(seen, Policy(latency=10), Memory(), 0.0).message
    assert message == "5 waiting and 2 in flight need 7 workers, a slot for each as long as no service time is known"
    known = decide(replace(seen, service_seconds=4.0), Policy(latency=10), Memory(), 0.0).message
    assert known == "5 waiting and 2 in flight need 2 workers to start within 10s"


# ---- arrivals

FAST = Observation(5, 5, 50, arrived=0, service_seconds=0.1)
PATIENT = Policy(latency=10.0)
"""tau is 30 s."""


def measure(counter: list[tuple[float, int]], seen: Observation = FAST, policy: Policy = PATIENT) -> float:
    """The rate after looking at a counter at these times."""
    memory = Memory()
    for now, arrived in counter:
        memory = replace(memory, rates=update(replace(seen, arrived=arrived), policy, memory, now))
    return arrivals(memory.rates, "")


def test_one_look_is_no_rate() -> None:
    assert measure([(0, 10_000)]) == 0


def test_a_steady_stream_is_measured_within_two_tau() -> None:
    assert measure([(t, 8 * t) for t in range(61)]) == pytest.approx(8 * 0.8647, rel=0.01)
    assert measure([(t, 8 * t) for t in range(400)]) == pytest.approx(8, rel=0.001)


def test_irregular_looks_measure_the_same_as_regular_ones() -> None:
    irregular = [(t, 8 * t) for t in [0, 0.25, 0.5, 7, 7.125, 30, 31, 90, 90, 90.5, 200]]
    regular = [(t, 8 * t) for t in range(201)]
    assert measure(irregular) == pytest.approx(measure(regular), rel=0.001)


def test_a_queue_made_anew_goes_on_from_what_it_holds() -> None:
    before = [(t, 1000 + 8 * t) for t in range(300)]
    assert measure([*before, (300, 8), (301, 16)]) == pytest.approx(8, rel=0.01)


def test_a_counter_that_jumps_past_what_can_have_come_and_gone_counts_only_what_can() -> None:
    """50 slots of 0.1 s serve 500 a second, 4 x that is plausible; a million in a second is not."""
    before = [(t, 8 * t) for t in range(300)]
    jumped = measure([*before, (300, 1_000_000)])
    assert jumped == pytest.approx(8 + (1 / 30) * (5 + 2000), rel=0.05)


def test_a_look_without_a_counter_keeps_what_is_known() -> None:
    memory = Memory(rates=(("", 1.0, 5, 2.5),))
    assert update(Observation(3, 0, 0), PATIENT, memory, 2.0) == memory.rates


def test_a_look_at_the_same_moment_loses_no_arrival() -> None:
    assert measure([(0, 0), (1, 8), (1, 8), (2, 16)]) == measure([(0, 0), (1, 8), (2, 16)])


def test_a_lone_burst_is_counted_at_most_a_third_too_high() -> None:
    """900 tasks at once for a latency of 300 s: 3 a second of backlog, and 1 a second of the smoothed rate."""
    policy = Policy(latency=300.0, max_workers=1000)
    memory = decide(Observation(0, 0, 0, arrived=0, service_seconds=1.0), policy, Memory(), 0.0).memory
    decision = decide(Observation(900, 0, 0, arrived=900, service_seconds=1.0), policy, memory, 1.0)
    assert 3 <= decision.target <= 4


def test_a_queue_that_looks_empty_but_moves_is_not_idle() -> None:
    """Short tasks come and go between two looks: the counter says that they were there."""
    policy, memory = Policy(idle_after=5.0), Memory()
    for second in range(30):
        decision = decide(Observation(0, 0, 1, arrived=10 * second), policy, memory, float(second))
        memory = decision.memory
        assert decision.target == 1
    for second in range(30, 36):
        decision = decide(Observation(0, 0, 1, arrived=290), policy, memory, float(second))
        memory = decision.memory
    assert decision.target == 0


def test_an_idle_pool_goes_to_zero_though_its_smoothed_rate_never_does() -> None:
    policy, memory, current = Policy(latency=10.0, idle_after=5.0), Memory(), 2
    for second in range(20):
        arrived = min(second, 5) * 10
        seen = Observation(0, 0, current, arrived=arrived, service_seconds=1.0)
        decision = decide(seen, policy, memory, float(second))
        memory, current = decision.memory, decision.target
    assert arrivals(memory.rates, "") > 0
    assert current == 0


# ---- what holds always

SLOW = settings(max_examples=60)
"""The machine is shared: a deadline would measure the others."""

targets = st.builds(
    lambda lag, latency, busy, slots: Policy(
        max_workers=100_000, lag_per_slot=lag, latency=latency, utilization=busy, slots=slots
    ),
    st.none() | st.floats(0.1, 50),
    st.none() | st.floats(0.0, 600),
    st.none() | st.floats(0.01, 1.0),
    st.integers(1, 16),
)
times = st.none() | st.floats(0.0, 1000)
counts = st.integers(0, 2000)


@SLOW
@given(targets, counts, counts, counts, st.floats(0, 100), times)
def test_a_longer_queue_never_needs_fewer_workers(
    policy: Policy, waiting: int, more: int, in_flight: int, rate: float, service: float | None
) -> None:
    less = highest_need(load(waiting, in_flight, rate, service), policy)
    assert highest_need(load(waiting + more, in_flight, rate, service), policy).workers >= less.workers


@SLOW
@given(targets, counts, counts, st.floats(0, 100), times)
def test_what_is_in_flight_always_has_its_slot(
    policy: Policy, waiting: int, in_flight: int, rate: float, service: float | None
) -> None:
    need = highest_need(load(waiting, in_flight, rate, service), policy)
    assert need.workers * policy.slots >= in_flight
    assert need.workers >= 1 or not (waiting or in_flight)


@SLOW
@given(st.lists(st.tuples(st.floats(0.0, 60), st.integers(0, 10**9)), min_size=1, max_size=30), targets)
def test_whatever_the_counter_does_the_rate_is_finite_and_possible(
    counter: list[tuple[float, int]], policy: Policy
) -> None:
    now, looks = 0.0, []
    for wait, arrived in counter:
        now += wait
        looks.append((now, arrived))
    gaps = [b - a for (a, _), (b, _) in pairwise(looks) if b > a]
    most = 4 * 50 * policy.slots / 0.1 + (5 / min(gaps) if gaps else 0)
    assert 0 <= measure(looks, FAST, policy) <= most * 1.000001


@SLOW
@given(targets, counts, st.integers(0, 50), st.floats(0, 30), times, st.sampled_from([0.5, 1.0, 15.0]))
def test_under_a_constant_load_no_target_turns_around(
    policy: Policy, waiting: int, in_flight: int, rate: float, service: float | None, tick: float
) -> None:
    """Counters are whole tasks: the stream is such that each look sees as many as the one before."""
    memory, current, targets = Memory(), 0, [0]
    each = round(rate * tick)
    for look in range(40):
        seen = Observation(
            waiting + in_flight, in_flight, max(current, 50), arrived=each * look, service_seconds=service
        )
        decision = decide(seen, policy, memory, look * tick)
        memory, current = decision.memory, decision.target
        targets.append(decision.steps[0].workers)
    assert targets == sorted(targets)
