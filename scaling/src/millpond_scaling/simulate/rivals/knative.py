"""Knative's pod autoscaler (KPA) on concurrency; a waiting or running task is a concurrent request.

Source: Knative Serving 98e5ef9 (after v0.50), pkg/autoscaler: scaling/autoscaler.go (Scale), aggregation/bucketing.go
(WindowAverage), and config-autoscaler: stable window 60 s, panic window 6 s, panic at 200 %, target 70 % of the
container's concurrency, tick 2 s, up at most 1000-fold and down at most by half a tick.
For the rival's good: from zero the activator wakes it with the first request (Poke), and to zero it needs no grace
period, because with the default target-burst-capacity of 211 the activator has been in the path all the time
(kpa/scaler.go, "Fast path scaling to 0"); pods that go may finish for 300 s (timeoutSeconds of a revision).
"""

import math
from collections import deque
from dataclasses import dataclass, field

from millpond_scaling.simulate.model import Look, View

STABLE, PANIC, TICK, SAMPLE = 60.0, 6.0, 2.0, 1.0
TARGET, PANIC_THRESHOLD, DOWN_RATE, UP_RATE = 0.7, 2.0, 2.0, 1000.0
WAKE = 0.05


@dataclass
class Knative:
    """The KPA of one revision."""

    maximum: int
    slots: int = 1
    name: str = "Knative KPA"
    drains: bool = False
    grace: float | None = 300.0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _tick: float = 0.0
    _panic_at: float | None = None
    _panic_pods: int = 0

    def look(self, view: View) -> Look:
        now = view.now
        if view.lag or view.current:
            self._samples.append((now, view.lag))
        while self._samples and self._samples[0][0] <= now - STABLE:
            self._samples.popleft()
        poked = view.current == 0 and view.lag > 0
        target = None
        if now >= self._tick or poked:
            self._tick = now + TICK
            target = self._decide(view) if self._samples else None
        return Look(target, now + SAMPLE)

    def woken(self, now: float, current: int) -> float | None:
        return now + WAKE if current == 0 else None

    def _decide(self, view: View) -> int:
        ready = max(1, view.ready)
        per_pod = TARGET * self.slots
        highest, lowest = math.ceil(UP_RATE * ready), math.floor(ready / DOWN_RATE)
        stable, panic = (math.ceil(self._average(view.now, window) / per_pod) for window in (STABLE, PANIC))
        wanted, urgent = (min(max(number, lowest), highest) for number in (stable, panic))
        over = panic / ready >= PANIC_THRESHOLD
        if over:
            self._panic_at = view.now
        elif self._panic_at is not None and view.now - self._panic_at > STABLE:
            self._panic_at, self._panic_pods = None, 0
        if self._panic_at is not None:
            # In panic it only grows.
            self._panic_pods = max(self._panic_pods, wanted, urgent)
            wanted = self._panic_pods
        return min(wanted, self.maximum)

    def _average(self, now: float, window: float) -> float:
        """Over the samples of the window; a window that has just begun is averaged over what there is."""
        values = [lag for at, lag in self._samples if at > now - window]
        return sum(values) / len(values) if values else 0.0
