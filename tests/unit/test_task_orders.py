"""What a Task object becomes on its way to the broker."""

from datetime import UTC, datetime
from typing import Any

import pytest
from millpond.unique import Lock, Unique, decide_unique
from millpond_api.lifecycle import TaskState
from millpond_api.v1alpha1 import TaskSpec
from millpond_operator.cluster.cache import Key
from millpond_operator.handlers.task_objects import make_order, make_unique

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def spec(**fields: Any) -> TaskSpec:
    return TaskSpec.model_validate({"pool": "mill", "handler": "grind", "uniqueKey": "nightly"} | fields)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        pytest.param(None, Unique("nightly"), id="the key alone"),
        pytest.param({"period": "1h"}, Unique("nightly", period=3600.0), id="period"),
        pytest.param(
            {"states": ["Queued", "Failed"]},
            Unique("nightly", states=frozenset({TaskState.QUEUED, TaskState.FAILED})),
            id="states",
        ),
        pytest.param({"states": []}, Unique("nightly"), id="no states: the SDK's own"),
        pytest.param({"onConflict": "Replace"}, Unique("nightly", on_conflict="replace"), id="replace"),
        pytest.param({"onConflict": "Debounce"}, Unique("nightly", on_conflict="replace"), id="debounce"),
    ],
)
def test_a_manifests_unique_key_means_what_the_sdks_does(rule: dict[str, Any] | None, wanted: Unique) -> None:
    assert make_unique(spec(unique=rule)) == wanted


def test_the_order_carries_the_key_so_that_the_rescue_sends_the_same() -> None:
    assert make_order(Key("ns", "a"), "uid", spec(), NOW).envelope.unique == "nightly"


@pytest.mark.parametrize(
    ("lock", "state", "act"),
    [
        pytest.param(Lock(task="mine"), None, "finish", id="my own, again"),
        pytest.param(Lock(task="mine", confirmed=True), TaskState.SUCCEEDED, "finish", id="my own, ended: sent again"),
        pytest.param(Lock(task="other"), None, "finish", id="its submitter died before it was stored"),
        pytest.param(Lock(task="other"), TaskState.RUNNING, "yield", id="stored, and its submitter died after it"),
        pytest.param(Lock(task="other"), TaskState.CANCELLED, "take", id="given up before it was stored"),
        pytest.param(Lock(task="other", confirmed=True), None, "take", id="its queue is gone"),
        pytest.param(Lock(task="other", confirmed=True), TaskState.QUEUED, "yield", id="it stands"),
        pytest.param(Lock(task="other", confirmed=True), TaskState.FAILED, "take", id="it has ended"),
    ],
)
def test_what_a_submission_does_about_the_lock_that_it_meets(lock: Lock, state: TaskState | None, act: str) -> None:
    assert decide_unique(Unique("nightly"), lock, "mine", state) == act
