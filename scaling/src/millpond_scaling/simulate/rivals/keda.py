"""KEDA with the HPA that it makes: its own loop between 0 and 1, the HPA above.

Source: KEDA v2.20, pkg/scaling/executor/scale_scaledobjects.go (RequestScale, scaleFromZeroOrIdle, scaleToZeroOrIdle)
and pkg/scalers/nats_jetstream_scaler.go (lag = num_pending + num_ack_pending; active above activationLagThreshold).
Defaults: pollingInterval 30 s, cooldownPeriod 300 s, lagThreshold 10. Each HPA sync reads the metric anew (no cache).
The phases of both loops are drawn from the seed, for nobody starts them with the burst.
"""

from dataclasses import dataclass, field

from millpond_scaling.model import Behavior, RatePolicy
from millpond_scaling.simulate.chance import Chance
from millpond_scaling.simulate.model import Look, View
from millpond_scaling.simulate.rivals.hpa import SYNC, Hpa

_WIDE = (RatePolicy("Percent", 100, 1.0), RatePolicy("Pods", 1000, 1.0))
WIDE = Behavior(0.0, _WIDE, "Max", 0.1)
"""HPA behaviour opened wide, as the benchmark on a real cluster sets it (bench/scenarios.py)."""


@dataclass(frozen=True)
class KedaRules:
    """What a ScaledObject says."""

    maximum: int
    threshold: float = 10.0
    polling: float = 30.0
    cooldown: float = 300.0
    up: Behavior | None = None
    down: Behavior | None = None
    activation: int = 0


@dataclass
class Keda:
    """KEDA's operator and its HPA on one pool."""

    name: str
    rules: KedaRules
    seed: int
    drains: bool = False
    grace: float | None = None
    _poll: float = 0.0
    _sync: float = 0.0
    _active_at: float | None = None
    hpa: Hpa = field(init=False)

    def __post_init__(self) -> None:
        phases, rules = Chance(self.seed, "keda"), self.rules
        self._poll = phases.uniform(0, rules.polling)
        self._sync = phases.uniform(0, SYNC)
        self.hpa = Hpa(1, rules.maximum, rules.threshold)
        if rules.up and rules.down:
            self.hpa.up, self.hpa.down = rules.up, rules.down

    def look(self, view: View) -> Look:
        target = None
        if view.now >= self._poll:
            self._poll += self.rules.polling
            target = self._activate(view)
        elif view.now >= self._sync:
            self._sync += SYNC
            target = self.hpa.sync(view.now, view.current, view.lag)
        return Look(target, min(self._poll, self._sync))

    def woken(self, now: float, current: int) -> float | None:
        return None

    def _activate(self, view: View) -> int | None:
        if view.lag > self.rules.activation:
            self._active_at = view.now
            return 1 if view.current == 0 else None
        idle_since = self._active_at
        if view.current and (idle_since is None or view.now - idle_since > self.rules.cooldown):
            return 0
        return None
