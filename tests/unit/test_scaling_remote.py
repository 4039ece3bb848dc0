"""Remote slots in scaling decisions: they take need off the pods, and can do nothing else."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from millpond_scaling import Memory, Observation, Policy, decide
from millpond_scaling.remote import PATIENCE, cover

POLICY = Policy(max_workers=10, idle_after=10.0)


def see(lag: int | None, in_flight: int | None = 0, current: int = 0, **more: int) -> Observation:
    return Observation(lag=lag, in_flight=in_flight, current=current, **more)


observations = st.builds(
    Observation,
    lag=st.none() | st.integers(0, 60),
    in_flight=st.none() | st.integers(0, 30),
    current=st.integers(0, 12),
    remote_slots=st.integers(0, 40),
    arrived=st.none() | st.integers(0, 100),
    service_seconds=st.none() | st.floats(0.01, 100),
).map(lambda seen: replace(seen, remote_in_flight=min(seen.remote_slots, seen.in_flight or 0)))
policies = st.builds(
    lambda low, more, slots, latency, lag: Policy(low, low + more, slots, lag, latency, idle_after=5.0),
    st.integers(0, 3),
    st.integers(0, 9),
    st.integers(1, 8),
    st.none() | st.floats(0.1, 60),
    st.none() | st.floats(0.5, 20),
)


@given(observations, policies, st.floats(0, 1e6))
def test_remote_slots_never_raise_the_number_and_never_push_it_below_the_floor(
    seen: Observation, policy: Policy, now: float
) -> None:
    with_them = decide(seen, policy, Memory(), now)
    # Without them their tasks in flight are the pods' own: what one would need if nobody else were there.
    alone = decide(replace(seen, remote_slots=0, remote_in_flight=0), policy, Memory(), now)
    if alone.reason != "Contradictory":
        assert with_them.target <= alone.target
    if with_them.reason not in ("Contradictory", "LagUnknown"):
        assert with_them.target >= min(policy.min_workers, seen.current or 0)


@given(observations, policies, st.floats(0, 1e6))
def test_missing_data_takes_no_pod_away_whatever_is_remote(seen: Observation, policy: Policy, now: float) -> None:
    blind = decide(replace(seen, in_flight=None), policy, Memory(), now)
    assert blind.target >= min(seen.current or 0, policy.max_workers)
    assert decide(replace(seen, lag=None), policy, Memory(), now).target == seen.current


def test_a_pool_at_zero_stays_there_while_free_remote_slots_cover_what_waits() -> None:
    decision = decide(see(2, remote_slots=2), POLICY, Memory(), 0.0)
    assert (decision.target, decision.reason) == (0, "ServedRemotely")
    assert decision.message == "2 waiting and 0 in flight need 2 workers; 2 remote slots leave 0 workers"
    assert decide(see(3, remote_slots=2), POLICY, Memory(), 0.0).target == 1


def test_what_runs_remotely_needs_no_pod_and_what_pods_run_keeps_theirs() -> None:
    assert decide(see(4, 4, remote_slots=4, remote_in_flight=4), POLICY, Memory(), 0.0).target == 0
    # Four remote slots are free, but the pods' two tasks go on where they are.
    assert cover(2.0, see(2, 2, 2, remote_slots=4), POLICY, Memory(), 0.0).raw == 2.0


def test_the_last_pod_goes_when_remote_workers_do_all_the_work() -> None:
    seen = see(3, 3, 1, remote_slots=4, remote_in_flight=3)
    first = decide(seen, POLICY, Memory(), 0.0)
    assert first.target == 1
    assert decide(seen, POLICY, first.memory, 9.0).target == 1
    assert decide(seen, POLICY, first.memory, 20.0).target == 0


def test_remote_slots_that_take_nothing_of_what_waits_are_no_longer_counted() -> None:
    seen = see(2, remote_slots=4, arrived=7)
    first = decide(seen, POLICY, Memory(), 0.0)
    assert first.target == 0
    later = decide(seen, POLICY, first.memory, PATIENCE)
    assert later.target == 2
    assert "4 remote slots take none of what waits" in later.message


def test_remote_slots_that_take_tasks_stay_counted_however_long_some_wait() -> None:
    memory = Memory()
    for second in range(60):
        decision = decide(see(2, remote_slots=4, arrived=10 + second), POLICY, memory, float(second))
        assert decision.target == 0
        memory = decision.memory


def test_a_remote_worker_that_drains_has_no_slot_left_and_its_task_needs_no_pod() -> None:
    assert decide(see(1, 1, remote_slots=1, remote_in_flight=1), POLICY, Memory(), 0.0).target == 0
    assert decide(see(2, 1, remote_slots=1, remote_in_flight=1), POLICY, Memory(), 0.0).target == 1
