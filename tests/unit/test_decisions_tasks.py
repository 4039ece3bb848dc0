"""The next step of a Task object, for every state that it can be found in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api.events import MAX_PAYLOAD_BYTES
from millpond_api.lifecycle import TERMINAL, TaskState
from millpond_api.v1alpha1 import TaskSpec, TaskStatus
from millpond_operator.decisions.tasks import Asked, Do, PoolView, decide_task, may_refuse, payload_size

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
POOL = PoolView(("default", "urgent"), queue_ready=True)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def spec(**fields: Any) -> TaskSpec:
    return TaskSpec.model_validate({"pool": "mill", "handler": "grind"} | fields)


@pytest.mark.parametrize(
    ("fields", "status", "pool", "do", "phase", "reason"),
    [
        pytest.param({}, {}, POOL, Do.SUBMIT, "Queued", "Submitted", id="new → submit"),
        pytest.param({}, {}, None, Do.WAIT, "Pending", "PoolNotFound", id="no pool → wait"),
        pytest.param({}, {}, PoolView(("default",), False), Do.WAIT, "Pending", "QueueMissing", id="no queue → wait"),
        pytest.param({"class": "slow"}, {}, POOL, Do.WAIT, "Pending", "ClassNotFound", id="unknown class → wait"),
        pytest.param({"suspend": True}, {}, POOL, Do.WAIT, "Pending", "Suspended", id="suspended → wait"),
        pytest.param(
            {"suspend": True}, {"phase": "Queued"}, POOL, Do.NOTHING, "", "", id="suspended too late → runs on"
        ),
        pytest.param({"not_before": after(9)}, {}, POOL, Do.SCHEDULE, "Scheduled", "NotBefore", id="later → schedule"),
        pytest.param(
            {"not_before": after(-9)}, {}, POOL, Do.SUBMIT, "Queued", "Submitted", id="its time came → submit"
        ),
        pytest.param({"deadline": after(-1)}, {}, POOL, Do.END, "Expired", "DeadlinePassed", id="too late → expired"),
        pytest.param({"deadline": after(-1)}, {}, None, Do.END, "Expired", "DeadlinePassed", id="too late, no pool"),
        pytest.param({"deadline": after(1)}, {}, POOL, Do.SUBMIT, "Queued", "Submitted", id="in time → submit"),
        pytest.param({"cancel": True}, {}, None, Do.END, "Cancelled", "Cancelled", id="cancelled while pending"),
        pytest.param(
            {"cancel": True}, {"phase": "Running"}, POOL, Do.END, "Cancelled", "Cancelled", id="cancelled amid"
        ),
        pytest.param({"cancel": True}, {"phase": "Succeeded"}, POOL, Do.NOTHING, "", "", id="cancelled after the end"),
        pytest.param({}, {"phase": "Backoff"}, POOL, Do.NOTHING, "", "", id="in backoff → the log leads"),
        pytest.param(
            {"args": ["x" * MAX_PAYLOAD_BYTES]},
            {},
            POOL,
            Do.END,
            "Failed",
            "ArgumentsTooLarge",
            id="too large → failed",
        ),
        pytest.param({}, {"phase": "Failed"}, POOL, Do.NOTHING, "", "", id="ended, no time to live → kept"),
        pytest.param(
            {"ttl_after_finished": "10s"},
            {"phase": "Failed", "finished_at": after(-4)},
            POOL,
            Do.LATER,
            "",
            "",
            id="ended 4s ago, lives 10s → look again",
        ),
        pytest.param(
            {"ttl_after_finished": "10s"},
            {"phase": "Succeeded", "finished_at": after(-10)},
            None,
            Do.DELETE,
            "",
            "",
            id="ended 10s ago, lives 10s → deleted",
        ),
    ],
)
def test_the_step(
    fields: dict[str, Any], status: dict[str, Any], pool: PoolView | None, do: Do, phase: str, reason: str
) -> None:
    step = decide_task(spec(**fields), TaskStatus.model_validate(status), pool, NOW)
    assert (step.do, step.phase, step.reason) == (do, phase, reason)
    assert step.message or do in (Do.NOTHING, Do.LATER, Do.DELETE)


def test_looking_again_is_due_when_its_time_to_live_is_over() -> None:
    status = TaskStatus(phase="Failed", finished_at=after(-4))
    assert decide_task(spec(ttl_after_finished="10s"), status, POOL, NOW).after == pytest.approx(6)


tasks = st.builds(
    spec,
    suspend=st.booleans(),
    cancel=st.booleans(),
    not_before=st.none() | st.floats(-60, 60).map(after),
    deadline=st.none() | st.floats(-60, 60).map(after),
    ttl_after_finished=st.sampled_from([None, "5s", "1h"]),
)
phases = st.sampled_from([str(state) for state in TaskState])
pools = st.sampled_from([None, POOL, PoolView(("default",), False)])


@given(tasks, phases, pools)
def test_what_has_ended_is_never_submitted_or_ended_again(task: TaskSpec, phase: str, pool: PoolView | None) -> None:
    step = decide_task(task, TaskStatus(phase=phase, finished_at=NOW), pool, NOW)
    if phase in TERMINAL:
        assert step.do in (Do.NOTHING, Do.LATER, Do.DELETE)
    else:
        assert step.do is not Do.DELETE
        if task.cancel:
            assert step.phase == "Cancelled"


@given(tasks, phases)
def test_only_what_waits_is_submitted_and_only_into_a_queue_that_is_there(task: TaskSpec, phase: str) -> None:
    for pool in (None, POOL, PoolView(("default",), False)):
        step = decide_task(task, TaskStatus(phase=phase), pool, NOW)
        if step.do in (Do.SUBMIT, Do.SCHEDULE):
            assert phase == "Pending"
            assert pool is POOL
            assert not task.suspend
            assert not task.cancel


def test_the_size_of_the_arguments_is_what_travels() -> None:
    assert payload_size(spec(args=[1], kwargs={"a": "ä"})) == len('{"args":[1],"kwargs":{"a":"ä"}}'.encode())


def test_a_task_without_a_retry_of_its_own_leaves_it_to_its_pool() -> None:
    assert spec().retry is None
    backoff = {"kind": "Quartic", "initial": "1500ms", "maximum": "1m"}
    retry = spec(retry={"maxAttempts": 2, "backoff": backoff, "giveUpOn": ["KeyError"]}).retry
    assert retry is not None
    own = retry.to_policy()
    assert (own.max_attempts, own.kind, own.initial, own.maximum) == (2, "quartic", 1.5, 60.0)
    assert own.give_up_on == ("KeyError",)


@pytest.mark.parametrize(
    ("asked", "versions", "may"),
    [
        pytest.param(Asked("b", 2, 2), ["b"], True, id="the one version that there is"),
        pytest.param(Asked("b", 2, 2), ["a", "b"], False, id="a rollout is under way"),
        pytest.param(Asked("b", 2, 2), ["a"], False, id="the version that is asked for is not made yet"),
        pytest.param(Asked("b", 2, 3), ["b"], False, id="the pool has changed, and this process has not heard of it"),
        pytest.param(Asked("b", 2, None), ["b"], False, id="the pool is gone"),
    ],
)
def test_a_version_on_its_way_out_refuses_no_task(asked: Asked, versions: list[str], may: bool) -> None:
    assert may_refuse(asked, versions) is may
