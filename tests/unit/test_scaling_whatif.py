"""A changed field of a recorded policy means what it means in a manifest; nothing else of the policy moves."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_api.v1alpha1.scaling import Scaling
from millpond_scaling import Policy
from millpond_scaling.model import Behavior, RatePolicy
from millpond_scaling.policy import make_policy
from millpond_scaling.whatif import FIELDS, WhatIfError, change_policy, names

NOT_DECIDED_HERE = {"scaling.priority", "scaling.forecast"}
"""What the policy does not hold: the group weighs priority, and the forecast comes in with the observation."""

POLICY = Policy(min_workers=2, max_workers=9, lag_per_slot=4.0, idle_after=77.0, warm=1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"scaling.maxWorkers": 40}, replace(POLICY, max_workers=40)),
        ({"scaling.target.lagPerSlot": None}, replace(POLICY, lag_per_slot=None)),
        ({"scaling.target.latency": "1m30s"}, replace(POLICY, latency=90.0)),
        ({"scaling.target.utilization": 70}, replace(POLICY, utilization=0.7)),
        ({"scaling.mode": "Shadow"}, replace(POLICY, shadow=True)),
        ({"replicas": 3}, replace(POLICY, manual=3)),
        ({"concurrency": 4}, replace(POLICY, slots=4)),
        (
            {"scaling.scaleUp.policies": [{"type": "Pods", "value": 4, "period": "15s"}]},
            replace(POLICY, scale_up=Behavior(policies=(RatePolicy("Pods", 4, 15.0),))),
        ),
        ({"scaling.scaleDown.stabilization": "5m"}, replace(POLICY, scale_down=Behavior(stabilization=300.0))),
        ({"scaling.maxWorkers": 40, "scaling.minWorkers": 10}, replace(POLICY, min_workers=10, max_workers=40)),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_only_what_is_named_changes(settings: dict[str, Any], expected: Policy) -> None:
    assert change_policy(POLICY, settings) == expected


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scaling.maxWorker": 4}, "scaling.maxWorkers"),
        ({"queue.maxDepth": 4}, "cannot be set here"),
        ({"scaling.maxWorkers": "many"}, "scaling.maxWorkers"),
        ({"scaling.idleAfter": "a while"}, "not a duration"),
        ({"scaling.maxWorkers": 1}, "minWorkers 2 would be greater than maxWorkers 1"),
        ({"scaling.target": None, "scaling.target.latency": "1s"}, "set one of them"),
    ],
)
def test_what_cannot_be_set_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(WhatIfError) as refused:
        change_policy(POLICY, settings)
    assert says in str(refused.value)


def test_every_field_of_the_spec_that_the_policy_holds_can_be_set() -> None:
    wanted = {f"scaling.{one.alias or name}" for name, one in Scaling.model_fields.items()}
    allowed = set(names())
    missing = {path for path in wanted if not any(a == path or a.startswith(f"{path}.") for a in allowed)}
    assert missing == NOT_DECIDED_HERE
    reached = set(FIELDS.values()) | {"scale_up", "scale_down"}
    assert reached == {one.name for one in fields(Policy)}


def test_setting_a_field_to_what_it_is_changes_nothing() -> None:
    spec = WorkerPoolSpec.model_validate({"image": "i", "app": "a:a", "scaling": {"target": {"latency": "30s"}}})
    assert change_policy(make_policy(spec), {"scaling.target.latency": "30s"}) == make_policy(spec)
