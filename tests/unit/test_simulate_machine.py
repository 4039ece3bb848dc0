"""The simulated world: first in first out, nothing lost, a drained worker is idle, a killed one's task runs again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_scaling import Policy
from millpond_scaling.forecast import Plan
from millpond_scaling.model import Behavior
from millpond_scaling.simulate import Arrival, Outcome, PodStart, Setting, View, simulate
from millpond_scaling.simulate.contest import NAMES, Contest, dominated
from millpond_scaling.simulate.machine import Machine, Worker
from millpond_scaling.simulate.model import Look, dominates
from millpond_scaling.simulate.ours import PUSH, Millpond

STILL = PodStart(schedule=1.0, start=1.0, sigma=0.0)
"""Every pod takes 2 s."""


@dataclass
class Script:
    """Sets these numbers of workers at these times."""

    plan: Sequence[tuple[float, int]]
    drains: bool = False
    grace: float | None = None
    name: str = "script"
    seen: list[View] = field(default_factory=list)

    def look(self, view: View) -> Look:
        self.seen.append(view)
        due = [target for at, target in self.plan if at <= view.now]
        later = [at for at, _ in self.plan if at > view.now]
        return Look(due[-1] if due else None, later[0] if later else view.now + 1000)

    def woken(self, now: float, current: int) -> float | None:
        return None


def run(tasks: list[tuple[float, float]], script: Script, **setting: object) -> Outcome:
    chosen = Setting(pod_start=STILL, tail=100.0, **setting)  # type: ignore[arg-type]
    return simulate([Arrival(*task) for task in tasks], chosen, script)


def test_a_task_waits_for_its_worker_to_start_and_the_worker_is_paid_until_it_is_gone() -> None:
    outcome = run([(0.0, 5.0)], Script([(0.0, 1), (50.0, 0)]))
    assert outcome.latencies == (2.0,)
    assert outcome.worker_seconds == 50.5
    assert (outcome.busy_seconds, outcome.pods, outcome.changes, outcome.flaps) == (5.0, 1, 2, 1)


def test_tasks_run_in_the_order_in_which_they_came_on_as_many_slots_as_there_are() -> None:
    tasks = [(0.0, 4.0), (0.1, 4.0), (0.2, 4.0), (0.3, 4.0)]
    assert run(tasks, Script([(0.0, 1)])).latencies == pytest.approx((2.0, 5.9, 9.8, 13.7))
    assert run(tasks, Script([(0.0, 1)]), slots=2).latencies == pytest.approx((1.9, 2.0, 5.7, 5.8))


def test_a_pod_told_to_go_finishes_within_its_grace() -> None:
    outcome = run([(0.0, 20.0)], Script([(0.0, 1), (5.0, 0)]), grace=30.0)
    assert (outcome.told_busy, outcome.interrupted, outcome.unfinished) == (1, 0, 0)
    assert outcome.worker_seconds == 22.5


def test_a_task_cut_off_begins_again_and_its_latency_counts_to_the_attempt_that_finished() -> None:
    outcome = run([(0.0, 20.0)], Script([(0.0, 1), (5.0, 0), (40.0, 1)]), grace=10.0)
    assert (outcome.told_busy, outcome.interrupted, outcome.unfinished) == (1, 1, 0)
    assert outcome.latencies == (42.0,)
    assert outcome.busy_seconds == 20.0


def test_what_is_never_run_is_counted() -> None:
    assert run([(0.0, 1.0)], Script([])).unfinished == 1


def test_pods_that_start_go_first_then_the_youngest() -> None:
    script = Script([(0.0, 1), (10.0, 2), (20.0, 3), (21.0, 2), (30.0, 1)])
    machine = Machine([Arrival(0.0, 90.0)], Setting(pod_start=STILL, tail=100.0), script)
    machine.run()
    gone = {worker.born: worker.gone for worker in machine.everyone}
    assert gone == {0.0: None, 10.0: 30.5, 20.0: 21.5}


def test_a_slow_starter_goes_before_a_younger_pod_that_is_ready() -> None:
    machine = Machine([], Setting(), Script([]))
    slow, young = Worker(1.0), Worker(2.0)
    young.ready = True
    machine.crew = [slow, young]
    assert machine._by_rank() == [slow, young]


def test_nobody_is_drained_while_a_worker_starts_and_nobody_who_is_busy() -> None:
    tasks = [(0.0, 50.0), (0.0, 50.0)]
    script = Script([(0.0, 3), (10.0, 4), (11.0, 0), (13.0, 0)], drains=True)
    machine = Machine([Arrival(*task) for task in tasks], Setting(pod_start=STILL, tail=100.0), script)
    outcome = machine.run()
    assert machine.numbers == [0, 3, 4, 2]
    assert (outcome.told_busy, outcome.interrupted) == (0, 0)


def test_a_scaler_sees_what_there_is() -> None:
    script = Script([(0.0, 2), (1.0, 2), (3.0, 2), (60.0, 2)])
    run([(0.0, 5.0), (0.5, 5.0), (0.7, 5.0)], script)
    assert script.seen[1] == View(1.0, 3, 0, 2, 0, 2, 3, 0, None)
    assert script.seen[2] == View(3.0, 1, 2, 2, 2, 0, 3, 0, None)
    assert script.seen[3] == View(60.0, 0, 0, 2, 2, 0, 3, 3, 5.0)


def test_a_pool_at_zero_is_woken_by_the_first_task() -> None:
    setting = Setting(pod_start=STILL)
    outcome = simulate([Arrival(7.3, 1.0)], setting, Millpond(Policy()))
    assert outcome.latencies == pytest.approx((PUSH + 2.0,))


def test_the_same_seed_gives_the_same_figures_and_another_one_others() -> None:
    tasks = [Arrival(index * 0.4, 2.0 + index % 3) for index in range(100)]
    contests = [Contest(tasks, Setting(seed=seed), Policy(max_workers=9)) for seed in (1, 1, 2)]
    first, again, other = (contest.run() for contest in contests)
    assert first == again
    assert first != other


traces = st.lists(st.tuples(st.floats(0, 300), st.floats(0.1, 60)), min_size=1, max_size=60).map(
    lambda pairs: [Arrival(*pair) for pair in sorted(pairs)]
)
policies = st.builds(
    lambda low, more, slots, lag, window: Policy(low, low + more, slots, lag, scale_down=Behavior(window)),
    st.integers(0, 3),
    st.integers(1, 8),
    st.integers(1, 3),
    st.sampled_from([0.5, 1.0, 5.0]),
    st.floats(0, 60),
)


@settings(max_examples=60)
@given(traces, policies, st.sampled_from(NAMES), st.integers(1, 3), st.sampled_from([0.0, 30.0]))
def test_every_task_runs_to_its_end_once_within_the_bounds_and_work_is_paid_for(
    tasks: list[Arrival], policy: Policy, name: str, seed: int, grace: float
) -> None:
    contest = Contest(tasks, Setting(policy.slots, grace=grace, seed=seed), policy)
    outcome = contest.run([name])[0]
    assert len(outcome.latencies) + outcome.unfinished == len(tasks)
    assert min(outcome.latencies, default=0.0) >= 0
    assert outcome.peak <= policy.max_workers
    assert outcome.worker_seconds * policy.slots >= outcome.busy_seconds - 1e-6
    if name.startswith("millpond"):
        assert (outcome.told_busy, outcome.interrupted, outcome.unfinished) == (0, 0, 0)


def test_dominated_is_who_is_worse_in_both_and_only_then() -> None:
    def outcome(policy: str, latency: float, paid: float, unfinished: int = 0) -> Outcome:
        return Outcome(policy, (latency,), paid, 1.0, 1, 1, 0, 0, 0, unfinished, 1, ())

    ours = outcome("Millpond", 2.0, 100.0)
    assert dominates(outcome("x", 1.0, 99.0), ours)
    assert not dominates(outcome("x", 2.0, 99.0), ours)
    assert not dominates(outcome("x", 1.0, 101.0), ours)
    assert not dominates(outcome("x", 1.0, 9.0, unfinished=1), ours), "cheap because it did not do the work"
    better = outcome("x", 1.0, 99.0)
    assert dominated([ours, better, outcome("y", 3.0, 9.0)]) == [(ours, better)]


def test_a_rush_that_comes_every_day_is_foreseen_once_its_history_is_known() -> None:
    """Four days with a rush at noon: on the fourth its tasks find workers that the forecast had started."""
    rush = [Arrival(day * 86400.0 + 43200.0 + index * 2.0, 30.0) for day in range(4) for index in range(300)]
    setting, policy = Setting(pod_start=STILL), Policy(max_workers=50)

    def waits(plan: Plan | None) -> float:
        machine = Machine(rush, setting, Millpond(policy, plan=plan, tick=30.0))
        machine.run()
        last = [machine.begun[task] - rush[task].at for task in range(900, 1200)]
        return sum(last) / len(last)

    assert waits(Plan(600.0, 288)) < 0.5 * waits(None)
