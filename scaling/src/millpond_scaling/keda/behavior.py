"""HPA behaviour (autoscaling/v2 `behavior`) as scaleUp and scaleDown. Pure.

The words and meanings are the same; only what is absent differs: the HPA then doubles or adds 4 pods every 15 s, waits
300 s before it takes pods away, and tolerates 10 per cent. Millpond assumes none of that.
Source: kubernetes pkg/apis/autoscaling/v2/defaults.go (GenerateHPAScaleUpRules, GenerateHPAScaleDownRules).
"""

from typing import Any

from millpond_scaling.keda.notes import Object, Reader

UP_POLICIES: list[Object] = [
    {"type": "Percent", "value": 100, "period": "15s"},
    {"type": "Pods", "value": 4, "period": "15s"},
]
DOWN_POLICIES: list[Object] = [{"type": "Percent", "value": 100, "period": "15s"}]
TOLERANCE = 0.1
WINDOWS = {"scaleUp": 0, "scaleDown": 300}
POLICIES = {"scaleUp": UP_POLICIES, "scaleDown": DOWN_POLICIES}


def convert_behavior(config: Reader, defaults: bool) -> Object:
    """`scaling.scaleUp` and `scaling.scaleDown`, as far as anything is to be written."""
    whole = Reader(config.take("behavior"), f"{config.path}.behavior", config.notes)
    made = {name: _direction(whole, name, defaults) for name in ("scaleUp", "scaleDown")}
    whole.end()
    return {name: rules for name, rules in made.items() if rules}


def _direction(whole: Reader, name: str, defaults: bool) -> Object:
    rules = Reader(whole.take(name), f"{whole.path}.{name}", whole.notes)
    made: Object = {}
    window = rules.integer("stabilizationWindowSeconds", WINDOWS[name] if defaults else None)
    if window is not None:
        made["stabilization"] = f"{window}s"
    policies = [_policy(one, f"{rules.path}.policies[{i}]", rules) for i, one in enumerate(rules.take("policies", []))]
    if policies or defaults:
        made["policies"] = policies or POLICIES[name]
    select = rules.take("selectPolicy", "Max" if defaults else None)
    if select:
        made["selectPolicy"] = select
    tolerance = rules.take("tolerance", TOLERANCE if defaults else None)
    if tolerance is not None:
        made["tolerance"] = _quantity(tolerance)
    rules.end()
    return made


def _policy(data: Any, path: str, rules: Reader) -> Object:
    one = Reader(data, path, rules.notes)
    made = {"type": one.take("type"), "value": one.integer("value"), "period": f"{one.integer('periodSeconds', 15)}s"}
    one.end()
    return made


def _quantity(value: Any) -> float:
    """A Kubernetes quantity as far as tolerances need it: `0.05`, `50m`."""
    text = str(value)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
