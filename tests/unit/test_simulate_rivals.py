"""The rivals do what their documents, tests and real runs say: each row names where it comes from."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from millpond_scaling.model import Behavior, RatePolicy
from millpond_scaling.simulate import Arrival, Setting, View
from millpond_scaling.simulate.machine import Machine
from millpond_scaling.simulate.model import Scaler
from millpond_scaling.simulate.rivals.hpa import DOWN, SYNC, UP, Hpa
from millpond_scaling.simulate.rivals.keda import WIDE, Keda, KedaRules
from millpond_scaling.simulate.rivals.knative import Knative
from millpond_scaling.simulate.rivals.numaflow import Numaflow, desired_replicas


def follow(hpa: Hpa, start: int, lags: Sequence[int], every: float = SYNC) -> list[int]:
    numbers, current = [], start
    for index, lag in enumerate(lags):
        current = hpa.sync(index * every, current, lag)
        numbers.append(current)
    return numbers


def percent(value: int, period: float, window: float = 0.0) -> Behavior:
    return Behavior(window, (RatePolicy("Percent", value, period),), "Max", 0.1)


HPA = [
    pytest.param(Hpa(1, 40, 10), 1, [400] * 5, [5, 10, 20, 40, 40], id="docs, Default Behavior: +4 or double each 15s"),
    pytest.param(Hpa(1, 40, 10), 10, [104, 91, 109, 111], [10, 10, 10, 12], id="docs, tolerance 0.1 of 10 pods"),
    pytest.param(Hpa(1, 40, 10), 0, [400], [0], id="docs, Implicit maintenance-mode deactivation: off at 0"),
    pytest.param(Hpa(1, 40, 10), 8, [0] * 20, [8] * 20, id="docs, Stabilization window: 300s hold a scale-down"),
    pytest.param(Hpa(1, 40, 10), 8, [0] * 22, [8] * 20 + [1, 1], id="docs, Default Behavior: then all at once, to min"),
    pytest.param(
        Hpa(1, 100, 1, UP, Behavior(0.0, (RatePolicy("Pods", 4, 60.0), RatePolicy("Percent", 10, 60.0)), "Max", 0.1)),
        80,
        [10] * 4,
        [72, 64, 57, 51],
        id="docs, Scaling policies: 80 pods, 8 go, then 7.2 rounded up to 8; the larger policy counts",
    ),
    pytest.param(
        Hpa(1, 100, 1, UP, Behavior(0.0, (RatePolicy("Pods", 5, 60.0), RatePolicy("Percent", 10, 60.0)), "Min", 0.1)),
        80,
        [10] * 2,
        [75, 70],
        id="docs, Scaling policies: selectPolicy Min takes the smallest change",
    ),
    pytest.param(
        Hpa(1, 1000, 1, percent(900, 60.0), DOWN), 1, [1000] * 3, [10, 100, 1000], id="KEP-853 Story 1: ×10 a minute"
    ),
    pytest.param(
        Hpa(1, 1000, 1, Behavior(0.0, (RatePolicy("Pods", 1, 60.0),), "Max", 0.1), DOWN),
        1,
        [1000] * 4,
        [2, 3, 4, 5],
        id="KEP-853 Story 3: one pod a minute",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("hpa", "start", "lags", "expected"), HPA)
def test_the_hpa_follows_its_documents(hpa: Hpa, start: int, lags: list[int], expected: list[int]) -> None:
    every = 60.0 if hpa.down.policies[0].period == 60.0 or hpa.up.policies[0].period == 60.0 else SYNC
    assert follow(hpa, start, lags, every) == expected


def time_to(scaler: Scaler, wanted: int, lag: int = 300) -> float:
    """Seconds until the number of workers is reached; the tasks never end, as with pause containers."""
    machine = Machine([Arrival(0.0, 1e9)] * lag, Setting(tail=600.0), scaler)
    machine.horizon = 5.0  # given up after 20 times that
    reached: list[float] = []
    scale = machine._scale

    def watch(target: int) -> None:
        scale(target)
        if len(machine.crew) >= wanted:
            reached.append(machine.now)

    machine._scale = watch  # type: ignore[method-assign]
    machine.run()
    return reached[0]


SEEDS = range(1, 21)


def test_keda_at_its_fastest_poll_takes_as_long_to_twenty_as_the_real_one_did() -> None:
    """Measured with KEDA v2.20.1, lagThreshold 10, 300 messages, poll 1 s: 0→1 in 0.5–1.1 s, 0→20 in 38–42 s."""
    ones = [time_to(Keda("k", KedaRules(20, 10.0, 1.0), seed), 1) for seed in SEEDS]
    twenties = [time_to(Keda("k", KedaRules(20, 10.0, 1.0), seed), 20) for seed in SEEDS]
    assert max(ones) <= 1.0
    assert 30 <= min(twenties) <= 38
    assert 42 <= max(twenties) <= 46


def test_keda_by_default_takes_as_long_to_twenty_as_the_real_one_did() -> None:
    """Measured: 0→1 in 8–28 s, 0→20 in 49–61 s."""
    ones = [time_to(Keda("k", KedaRules(20), seed), 1) for seed in SEEDS]
    twenties = [time_to(Keda("k", KedaRules(20), seed), 20) for seed in SEEDS]
    assert min(ones) < 8 < 28 < max(ones) <= 30
    assert min(twenties) <= 49 <= 61 <= max(twenties) <= 76


def test_keda_with_the_hpa_opened_wide_goes_to_twenty_at_one_sync() -> None:
    times = [time_to(Keda("k", KedaRules(20, 10.0, 1.0, 0.0, WIDE, WIDE), seed), 20) for seed in SEEDS]
    assert max(times) <= SYNC + 1


def test_keda_goes_to_zero_when_its_cooldown_has_passed_and_not_before() -> None:
    keda = Keda("k", KedaRules(20, 1.0, polling=10.0, cooldown=300.0), 1)
    machine = Machine([Arrival(0.0, 5.0)], Setting(tail=600.0), keda)
    machine.run()
    assert machine.numbers[-1] == 0
    gone = machine.everyone[0].gone
    assert gone is not None
    assert 300 < gone < 330


def view(now: float, lag: int, current: int, finished: int = 0) -> View:
    return View(now, lag, 0, current, current, 0, lag, finished, None)


def knative_numbers(scaler: Knative, lags: Sequence[int], current: int) -> list[int]:
    """The number after each second; every wanted pod is ready at once."""
    numbers = []
    for second, lag in enumerate(lags):
        target = scaler.look(view(float(second), lag, current)).target
        current = current if target is None else target
        numbers.append(current)
    return numbers


def test_knative_wakes_with_the_first_request_and_panics_at_twice_its_target() -> None:
    """autoscaler.go Scale: panic when ceil(panic average / target) is at least twice the ready pods; 70 % of 1 slot."""
    numbers = knative_numbers(Knative(100), [7] * 3, 0)
    assert numbers[0] == 10


def test_knative_never_shrinks_while_it_panics_and_then_by_half_a_tick_at_most() -> None:
    numbers = knative_numbers(Knative(100), [7] * 4 + [0] * 140, 1)
    assert set(numbers[4:60]) == {10}
    steps = [(a, b) for a, b in pairwise(numbers) if b < a]
    assert steps == [(10, 5), (5, 2), (2, 1), (1, 0)]


def test_knative_rests_only_after_a_whole_stable_window_without_a_request() -> None:
    numbers = knative_numbers(Knative(100), [1] * 5 + [0] * 70, 1)
    assert numbers.index(0) == 64, "the last request was seen at 4 s"


NUMAFLOW = [
    pytest.param(0, 0.0, 20.0, 1, 0, id="TestDesiredReplicas bothZero_scaleToZero"),
    pytest.param(100, 5.0, 20.0, 1, 1, id="TestDesiredReplicas normal"),
    pytest.param(1, 1000.0, 20.0, 1, 1, id="TestDesiredReplicas desiredZero_clampedToOne"),
    pytest.param(3, 0.5, 20.0, 1, 1, id="TestDesiredReplicas capByPending_desiredLessThanPending"),
    pytest.param(3, 0.01, 1.0, 5, 3, id="TestDesiredReplicas capByPending_desiredGreaterThanPending"),
    pytest.param(100_000, 0.001, 20.0, 1, 100_000, id="TestDesiredReplicas overflow_fromIssue3415"),
]


@pytest.mark.parametrize(("pending", "rate", "seconds", "ready", "expected"), NUMAFLOW)
def test_numaflow_follows_its_own_tests(pending: int, rate: float, seconds: float, ready: int, expected: int) -> None:
    assert desired_replicas(pending, rate, ready, seconds) == expected


def test_numaflow_moves_by_two_and_waits_for_its_cooldown() -> None:
    scaler, current, changes, finished = Numaflow(50, 1), 1, [], 0
    for tick in range(200):
        now = tick * 5.0
        finished += 5
        target = scaler.look(view(now, 500, current, finished)).target
        if target not in (None, current):
            assert target is not None
            changes.append((now, target - current))
            current = target
    assert {step for _, step in changes} == {2}
    assert all(later - earlier >= 90 for (earlier, _), (later, _) in pairwise(changes))


def test_numaflow_peeks_from_zero_only_after_its_sleep() -> None:
    scaler = Numaflow(50, 1)
    scaler._scaled_at = 0.0
    woken = [now for now in range(0, 300, 5) if scaler.look(view(float(now), 9, 0)).target == 1]
    assert woken
    assert woken[0] >= 120


def test_the_hpa_counts_what_the_period_has_already_added_and_taken() -> None:
    """horizontal.go getReplicasChangePerPeriod: a policy's value holds for its period, not for each sync."""
    slow = Behavior(0.0, (RatePolicy("Pods", 4, 60.0),), "Max", 0.1)
    assert follow(Hpa(1, 100, 1, slow, DOWN), 1, [100] * 9) == [5, 5, 5, 5, 9, 9, 9, 9, 13]
    assert follow(Hpa(1, 100, 1, UP, slow), 20, [1] * 6) == [16, 16, 16, 16, 12, 12]
