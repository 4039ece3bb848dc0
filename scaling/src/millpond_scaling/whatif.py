"""A recorded policy with some of its spec changed: `scaling.maxWorkers=40`. Pure.

Owns the way from a WorkerPool's field to the policy's field. The values go through the WorkerPool's own model and
`make_policy`, so a duration, a list or a null means here what it means in a manifest; only the fields that are named
are taken from it. It must not read the cluster: the record's policy is what was in force.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from millpond_api.v1alpha1 import WorkerPoolSpec
from pydantic import ValidationError

from millpond_scaling.model import Behavior, Policy
from millpond_scaling.policy import make_policy

FIELDS = {
    "scaling.minWorkers": "min_workers",
    "scaling.maxWorkers": "max_workers",
    "concurrency": "slots",
    "replicas": "manual",
    "scaling.target.lagPerSlot": "lag_per_slot",
    "scaling.target.latency": "latency",
    "scaling.target.utilization": "utilization",
    "scaling.idleAfter": "idle_after",
    "scaling.activationLag": "activation",
    "scaling.warmWorkers": "warm",
    "scaling.schedules": "schedules",
    "scaling.pause": "pause",
    "scaling.mode": "shadow",
    "rateLimit.rate": "rate",
}
"""The manifest's field → the policy's."""
BEHAVIORS = {"scaling.scaleUp": "scale_up", "scaling.scaleDown": "scale_down"}
BEHAVIOR_FIELDS = {
    "stabilization": "stabilization",
    "policies": "policies",
    "selectPolicy": "select",
    "tolerance": "tolerance",
}


Some = TypeVar("Some", Policy, Behavior)


class WhatIfError(ValueError):
    """A setting that cannot be applied: the sentence says which and what is allowed."""


def change_policy(policy: Policy, settings: Mapping[str, Any]) -> Policy:
    """`policy` with the manifest fields in `settings` (dotted path → plain JSON value) set as a manifest would."""
    changed = _changed(settings)
    for path in settings:
        parent, _, leaf = path.rpartition(".")
        if path in FIELDS:
            policy = _take(policy, changed, FIELDS[path])
        elif parent in BEHAVIORS and leaf in BEHAVIOR_FIELDS:
            behavior = BEHAVIORS[parent]
            mine, theirs = cast(Behavior, getattr(policy, behavior)), cast(Behavior, getattr(changed, behavior))
            policy = _with(policy, behavior, _with(mine, BEHAVIOR_FIELDS[leaf], getattr(theirs, BEHAVIOR_FIELDS[leaf])))
        else:
            raise WhatIfError(f"{path} cannot be set here; what can: {', '.join(names())}")
    if policy.min_workers > policy.max_workers:
        raise WhatIfError(f"minWorkers {policy.min_workers} would be greater than maxWorkers {policy.max_workers}")
    return policy


def names() -> list[str]:
    """Every path that may be set."""
    return [*FIELDS, *(f"{parent}.{leaf}" for parent in BEHAVIORS for leaf in BEHAVIOR_FIELDS)]


def _take(policy: Policy, changed: Policy, name: str) -> Policy:
    return _with(policy, name, getattr(changed, name))


def _with(value: Some, name: str, field: Any) -> Some:
    return replace(value, **{name: field})


def _changed(settings: Mapping[str, Any]) -> Policy:
    """The policy of a spec with just these fields; what the model refuses is said with the field's name."""
    tree: dict[str, Any] = {"image": "none", "app": "none:app"}
    for path, value in settings.items():
        *parents, leaf = path.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise WhatIfError(f"{path} lies inside of something that is set too: set one of them")
        place[leaf] = value
    try:
        return make_policy(WorkerPoolSpec.model_validate(tree))
    except ValidationError as error:
        first = error.errors()[0]
        raise WhatIfError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    except ValueError as error:
        raise WhatIfError(str(error)) from None
