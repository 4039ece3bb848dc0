"""Numaflow's autoscaling of a MonoVertex: replicas from the processing rate and what is pending.

Source: numaflow v1.8.3, pkg/reconciler/monovertex/scaling/scaling.go (scaleOneMonoVertex, desiredReplicas), options.go
(every vertex is looked at each 30 s), pkg/apis/numaflow/v1alpha1/const.go (lookback 120 s, both cooldowns 90 s, sleep
at zero 120 s, targetProcessingSeconds 20, replicasPerScale 2), pkg/mvtxdaemon (rate, pending: means of the lookback).
It is made for streams of small messages, and peeks from zero instead of being woken: judge its figures by that.
"""

from collections import deque
from dataclasses import dataclass, field

from millpond_scaling.simulate.chance import Chance
from millpond_scaling.simulate.model import Look, View

INTERVAL, SAMPLE = 30.0, 5.0
LOOKBACK, COOLDOWN, SLEEP = 120.0, 90.0, 120.0
TARGET_SECONDS, PER_SCALE = 20.0, 2


@dataclass
class Numaflow:
    """The scaler of one MonoVertex."""

    maximum: int
    seed: int
    name: str = "Numaflow"
    drains: bool = False
    grace: float | None = None
    _samples: deque[tuple[float, int, int]] = field(default_factory=deque)
    _check: float = 0.0
    _scaled_at: float | None = None

    def __post_init__(self) -> None:
        self._check = Chance(self.seed, "numaflow").uniform(0, INTERVAL)

    def look(self, view: View) -> Look:
        self._samples.append((view.now, view.finished, view.lag))
        while self._samples[0][0] < view.now - LOOKBACK:
            self._samples.popleft()
        target = None
        if view.now >= self._check:
            self._check += INTERVAL
            target = self._decide(view)
            if target is not None and target != view.current:
                self._scaled_at = view.now
        return Look(target, min(view.now + SAMPLE, self._check))

    def woken(self, now: float, current: int) -> float | None:
        return None

    def _decide(self, view: View) -> int | None:
        since = float("inf") if self._scaled_at is None else view.now - self._scaled_at
        if since < COOLDOWN:
            return None
        if view.current == 0:
            return 1 if since >= SLEEP else None
        if view.ready == 0 or len(self._samples) < 2:
            return None
        wanted = min(self._desired(view), self.maximum)
        step = max(-PER_SCALE, min(PER_SCALE, wanted - view.current))
        return view.current + step

    def _desired(self, view: View) -> int:
        (begin, done, _), (end, now_done, _) = self._samples[0], self._samples[-1]
        rate = (now_done - done) / (end - begin)
        pending = int(sum(lag for _, _, lag in self._samples) / len(self._samples))
        return view.current if rate == 0 < pending else desired_replicas(pending, rate, view.ready)


def desired_replicas(pending: int, rate: float, ready: int, target_seconds: float = TARGET_SECONDS) -> int:
    """round(pending / rate / target_seconds × ready): at least 1 and at most what is pending; 0 when both are 0."""
    if pending == 0 and rate == 0:
        return 0
    desired = max(1, round(pending / rate / target_seconds * ready))
    return min(desired, pending) if pending else desired
