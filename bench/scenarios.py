"""What is measured of a scaler: the changes of size, and the set-ups of KEDA that stand beside Millpond.

Pure data. The target is the same everywhere: ten waiting tasks for each worker, twenty workers at most.
"""

from dataclasses import dataclass, field

from tests.support.kube import Body

LAG_PER_WORKER = 10
MOST = 20


@dataclass(frozen=True)
class Scenario:
    """A pool with `workers` and `waiting` tasks gets `publish` more (none: its queue is emptied) and goes to `wanted`.

    `limit` is how long that may take, in seconds. `drained`: Millpond's workers are real and ready, because it asks
    each one before it goes; KEDA asks nobody, so its pods are held back here too, which spares it their start.
    """

    name: str
    workers: int
    waiting: int
    publish: int
    wanted: int
    limit: float = 180.0
    drained: bool = False


FROM_ZERO = Scenario("0→1", 0, 0, 1, 1)
BURST = Scenario("0→20", 0, 0, 300, MOST)
GROWTH = Scenario("5→20", 5, 50, 250, MOST)
# KEDA's default cooldown is 300 s.
TO_ZERO = Scenario("20→0", MOST, 300, 0, 0, limit=420.0, drained=True)
SHORT = (FROM_ZERO, BURST, GROWTH)
SCENARIOS = (*SHORT, TO_ZERO)


@dataclass(frozen=True)
class Setup:
    """A way to set a scaler up. `phase`: rounds begin at a random moment of this time, its longest period in seconds.

    `spec` is what of the ScaledObject (or of spec.scaling) differs from the defaults; `keda` tells which of both.
    """

    name: str
    phase: float
    spec: Body = field(default_factory=dict)
    keda: bool = True


_POLICIES = [{"type": "Percent", "value": 100, "periodSeconds": 1}, {"type": "Pods", "value": 1000, "periodSeconds": 1}]
_WIDE = {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": _POLICIES}

MILLPOND = Setup("Millpond", 1.0, keda=False)
MILLPOND_WIDE = Setup(
    "Millpond, no idle time", 1.0, {"idleAfter": "0s", "scaleDown": {"stabilization": "0s"}}, keda=False
)
# The HPA looks every 15 s (its own default, which a user of a managed cluster can't change).
KEDA_DEFAULT = Setup("KEDA, defaults", 30.0)
KEDA_FAST = Setup("KEDA, pollingInterval 1", 15.0, {"pollingInterval": 1})
KEDA_WIDE = Setup(
    "KEDA, pollingInterval 1, HPA opened wide",
    15.0,
    {
        "pollingInterval": 1,
        "cooldownPeriod": 0,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": _WIDE, "scaleDown": _WIDE}}},
    },
)
KEDAS = (KEDA_DEFAULT, KEDA_FAST, KEDA_WIDE)
