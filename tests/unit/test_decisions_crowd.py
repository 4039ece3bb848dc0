"""A pool's workers in one record: nobody is counted twice, and silence makes the tasks in flight unknown."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api.events import Beat, InFlight
from millpond_operator.decisions.crowd import Crowd, count_missing, make_crowd
from millpond_operator.decisions.pods import PodFacts
from millpond_operator.decisions.workers import (
    LOST_AFTER,
    SILENT_LONG,
    Silence,
    WorkerMemory,
    decide_silence,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
READY = PodFacts("w", "u", phase="Running", ready=True, running=True)


def beat(state: str = "Idle", in_flight: int = 0) -> Beat:
    running = [InFlight(task=f"t{number}", since=NOW) for number in range(in_flight)]
    return Beat(state=state, at=NOW, started=NOW, slots=4, in_flight=running, incarnation="first")


def crowd(*workers: WorkerMemory) -> Crowd:
    return make_crowd((f"w{number}", worker) for number, worker in enumerate(workers))


workers = st.builds(
    WorkerMemory,
    pod=st.builds(
        replace,
        st.just(READY),
        ready=st.booleans(),
        going=st.booleans(),
        trouble=st.sampled_from([None, ("Unschedulable", "no room"), ("ImagePullBackOff", "no image")]),
    ),
    beat=st.none() | st.builds(beat, st.sampled_from(["Starting", "Idle", "Busy", "Draining"]), st.integers(0, 3)),
    silence=st.sampled_from(Silence),
)


@given(st.lists(workers, max_size=6))
def test_every_worker_is_in_one_state_and_a_going_pod_is_no_worker_to_come(some: list[WorkerMemory]) -> None:
    seen = crowd(*some)
    assert sum(seen.states.values()) == len(some)
    assert seen.pods == sum(not worker.pod.going for worker in some if worker.pod)
    assert seen.ready <= seen.pods
    assert seen.unschedulable <= seen.pods
    assert len(seen.drained) <= seen.pods


@given(st.lists(workers, max_size=6))
def test_tasks_in_flight_are_never_more_than_was_said(some: list[WorkerMemory]) -> None:
    seen = crowd(*some)
    assert seen.in_flight is None or seen.in_flight <= seen.said_in_flight


@pytest.mark.parametrize(("silence", "known"), [(Silence.NONE, 2), (Silence.LOST, None), (Silence.LONG, 1)], ids=str)
def test_a_silent_worker_makes_in_flight_unknown_until_its_leases_have_ended(
    silence: Silence, known: int | None
) -> None:
    quiet = WorkerMemory(pod=READY, beat=beat("Busy", 1), silence=silence)
    assert crowd(quiet, WorkerMemory(pod=READY, beat=beat("Busy", 1))).in_flight == known


def test_a_silent_worker_counts_as_lost_and_one_that_never_spoke_as_starting() -> None:
    states = crowd(
        WorkerMemory(pod=READY, beat=beat(), silence=Silence.LOST), WorkerMemory(pod=READY, silence=Silence.LOST)
    ).states
    assert states == {"Lost": 1, "Starting": 1}


def test_a_drained_worker_is_named_until_its_pod_goes() -> None:
    drained = WorkerMemory(pod=READY, beat=beat("Draining"))
    assert crowd(drained).drained == ("w0",)
    assert crowd(replace(drained, pod=replace(READY, going=True))).drained == ()
    assert crowd(replace(drained, beat=beat("Draining", 1))).drained == ()
    assert crowd(replace(drained, silence=Silence.LOST)).drained == ()


def test_a_missing_handler_is_trouble_unless_a_pod_has_worse() -> None:
    lacking = WorkerMemory(pod=READY, beat=replace(beat(), missing={"census.parse": 2}))
    stuck = WorkerMemory(pod=replace(READY, ready=False, trouble=("ImagePullBackOff", "no such image")))
    assert (crowd(lacking).trouble or ("",))[0] == "HandlerMissing"
    assert crowd(lacking, stuck).trouble == ("ImagePullBackOff", "worker w1: no such image")


def test_a_handler_that_another_live_worker_has_is_not_missing() -> None:
    old = WorkerMemory(pod=READY, beat=replace(beat(), handlers=("a",), missing={"b": 2, "c": 1}))
    new = WorkerMemory(pod=READY, beat=replace(beat(), handlers=("b",), missing={"a": 1, "c": 3}))
    assert crowd(old, new).missing == (("c", 3),)
    assert crowd(old).missing == (("b", 2), ("c", 1))
    assert crowd(old, replace(new, silence=Silence.LOST)).missing == (("b", 2), ("c", 1))
    reason, message = count_missing(crowd(old).missing) or ("", "")
    assert reason == "HandlerMissing"
    assert "b: 2, c: 1" in message


@given(st.floats(0, 100))
def test_silence_has_three_steps(seconds: float) -> None:
    expected = Silence.NONE if seconds <= LOST_AFTER else Silence.LOST if seconds <= SILENT_LONG else Silence.LONG
    assert decide_silence(seconds) is expected


def test_what_nobody_can_read_is_named_as_a_codec_and_not_as_a_handler() -> None:
    lacking = WorkerMemory(pod=READY, beat=replace(beat(), missing={"codec:gzip": 2}))
    _, message = count_missing(crowd(lacking).missing) or ("", "")
    assert message.startswith("no worker has the codec gzip: tasks for it wait")
