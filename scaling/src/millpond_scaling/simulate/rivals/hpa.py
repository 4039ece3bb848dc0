"""The HorizontalPodAutoscaler on one external metric of type AverageValue (as KEDA makes it): its published rules.

Source: kubernetes v1.35, pkg/controller/podautoscaler: GetExternalPerPodMetricReplicas (replica_calculator.go), and
stabilizeRecommendationWithBehaviors, calculateScaleUpLimitWithScalingRules, calculateScaleDownLimitWithBehaviors
(horizontal.go); defaults in pkg/apis/autoscaling/v2/defaults.go; --horizontal-pod-autoscaler-sync-period 15 s.
"""

import math
from dataclasses import dataclass, field

from millpond_scaling.model import Behavior, RatePolicy

SYNC = 15.0
_LATE = 0.001
"""A sync comes 15 s after the one before has been worked off, so a little later: a change 15 s ago is past."""
TOLERANCE = 0.1
UP = Behavior(0.0, (RatePolicy("Pods", 4, 15.0), RatePolicy("Percent", 100, 15.0)), "Max", TOLERANCE)
DOWN = Behavior(300.0, (RatePolicy("Percent", 100, 15.0),), "Max", TOLERANCE)


@dataclass
class Hpa:
    """One autoscaler with its memory: recommendations and changes of the past."""

    minimum: int
    maximum: int
    threshold: float
    up: Behavior = UP
    down: Behavior = DOWN
    recommendations: list[tuple[float, int]] = field(default_factory=list)
    added: list[tuple[float, int]] = field(default_factory=list)
    removed: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, now: float, current: int, lag: int) -> int:
        """The number of pods to set; the current one when nothing is to be done. At 0 it is switched off."""
        if current == 0:
            return 0
        wanted = self._wanted(current, lag)
        steady = self._stabilize(now, current, wanted)
        target = self._limited(now, current, steady)
        if target > current:
            self.added.append((now, target - current))
        elif target < current:
            self.removed.append((now, current - target))
        return target

    def _wanted(self, current: int, lag: int) -> int:
        ratio = lag / (self.threshold * current)
        tolerance = self.up.tolerance if ratio > 1 else self.down.tolerance
        return current if abs(1 - ratio) <= tolerance else math.ceil(lag / self.threshold)

    def _stabilize(self, now: float, current: int, wanted: int) -> int:
        """Up to the lowest recommendation of the up window, down to the highest of the down window."""
        longest = max(self.up.stabilization, self.down.stabilization)
        # The first sync remembers what it found, so that a new HPA takes nothing away at once.
        known = self.recommendations or [(now, current)]
        self.recommendations = [(at, value) for at, value in known if at > now - longest]
        lowest = min([wanted, *(v for at, v in self.recommendations if at > now - self.up.stabilization)])
        highest = max([wanted, *(v for at, v in self.recommendations if at > now - self.down.stabilization)])
        self.recommendations.append((now, wanted))
        return max(current, lowest) if current < lowest else min(current, highest) if current > highest else current

    def _limited(self, now: float, current: int, wanted: int) -> int:
        if wanted > current:
            return min(wanted, self.maximum, max(current, self._up_limit(now, current)))
        if wanted < current:
            return max(wanted, self.minimum, min(current, self._down_limit(now, current)))
        return min(max(current, self.minimum), self.maximum)

    def _up_limit(self, now: float, current: int) -> int:
        limits = [
            math.ceil(start * (1 + rule.value / 100)) if rule.type == "Percent" else start + rule.value
            for rule in self.up.policies
            for start in [self._start(now, current, rule.period)]
        ]
        return (max if self.up.select == "Max" else min)(limits)

    def _down_limit(self, now: float, current: int) -> int:
        limits = [
            int(start * (1 - rule.value / 100)) if rule.type == "Percent" else start - rule.value
            for rule in self.down.policies
            for start in [self._start(now, current, rule.period)]
        ]
        return (min if self.down.select == "Max" else max)(limits)

    def _start(self, now: float, current: int, period: float) -> int:
        """Pods at the beginning of the period: the current ones without what the period has changed."""
        begin = now - period + _LATE
        added = sum(value for at, value in self.added if at > begin)
        removed = sum(value for at, value in self.removed if at > begin)
        return current - added + removed
