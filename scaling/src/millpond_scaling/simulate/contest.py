"""Several policies side by side: who takes part, and who is dominated by whom. Pure.

Owns that everyone gets the same bounds, the same slots and the same target: a lag of `lag_per_slot` for each slot is
KEDA's lagThreshold of as many times the slots; Knative and Numaflow have targets of their own kind and keep their
defaults.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from millpond_scaling.forecast import Plan
from millpond_scaling.model import Behavior, Policy
from millpond_scaling.simulate.machine import simulate
from millpond_scaling.simulate.model import Arrival, Outcome, Scaler, Setting, dominates
from millpond_scaling.simulate.ours import Millpond
from millpond_scaling.simulate.rivals.keda import WIDE, Keda, KedaRules
from millpond_scaling.simulate.rivals.knative import Knative
from millpond_scaling.simulate.rivals.numaflow import Numaflow

OURS = "millpond"
NAMES = (OURS, "millpond-latency", "millpond-calm", "keda", "keda-fastest", "knative", "numaflow")
"""millpond is the policy as given; -latency aims at 10 s instead, -calm waits 60 s before it shrinks."""
LATENCY, CALM = 10.0, 60.0


@dataclass(frozen=True)
class Contest:
    """A trace, the world, and our policy, from which the rivals' settings follow."""

    arrivals: Sequence[Arrival]
    setting: Setting
    policy: Policy
    threshold: float | None = None
    """KEDA's lagThreshold; None: the policy's lag_per_slot times its slots."""
    wall: float = 0.0
    plan: Plan | None = None
    """The forecast of the policy as given, if it has one."""

    def scaler(self, name: str) -> Scaler:
        """The contender called `name`; KeyError for a name that is not in NAMES."""
        policy, seed, top = self.policy, self.setting.seed, self.policy.max_workers
        threshold = self.threshold or (policy.lag_per_slot or 1.0) * policy.slots
        makers: dict[str, Callable[[], Scaler]] = {
            OURS: lambda: Millpond(policy, "Millpond", wall=self.wall, plan=self.plan),
            "millpond-latency": lambda: Millpond(
                replace(policy, lag_per_slot=None, latency=LATENCY), f"Millpond, latency {LATENCY:g} s", wall=self.wall
            ),
            "millpond-calm": lambda: Millpond(
                replace(policy, scale_down=Behavior(stabilization=CALM)), f"Millpond, calm {CALM:g} s", wall=self.wall
            ),
            "keda": lambda: Keda("KEDA + HPA", KedaRules(top, threshold), seed),
            "keda-fastest": lambda: Keda("KEDA fastest", KedaRules(top, threshold, 1.0, 0.0, WIDE, WIDE), seed),
            "knative": lambda: Knative(top, policy.slots),
            "numaflow": lambda: Numaflow(top, seed),
        }
        return makers[name]()

    def run(self, names: Sequence[str] = NAMES) -> list[Outcome]:
        """One outcome for each name, in order."""
        return [simulate(self.arrivals, self.setting, self.scaler(name)) for name in names]


def dominated(outcomes: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """(ours, rival) wherever a rival has both a lower p99 and fewer worker-seconds than one of ours."""
    ours = [one for one in outcomes if one.policy.startswith("Millpond")]
    rivals = [one for one in outcomes if not one.policy.startswith("Millpond")]
    return [(one, rival) for one in ours for rival in rivals if dominates(rival, one)]
