"""Millpond's own policy: the operator's `decide`, fed with what the simulated pool shows.

Owns when the operator looks: each tick, and sooner when a task arrives (push), at zero at once and above zero not more
often than `gap`. Assumed besides: heartbeats are fresh, and one patch carries all workers that are found idle.
"""

from dataclasses import dataclass, field

from millpond_scaling import forecast
from millpond_scaling.engine import decide
from millpond_scaling.model import Memory, Observation, Policy
from millpond_scaling.simulate.model import Look, View

TICK = 1.0
PUSH = 0.05
"""From a stored task to the patched Deployment; the benchmark on a real cluster tells the measured figure."""
GAP = 0.2
"""The least time between two looks at a pool above zero."""


@dataclass
class Millpond:
    """`decide` on one pool."""

    policy: Policy
    name: str = "Millpond"
    drains: bool = True
    grace: float | None = None
    wall: float = 0.0
    """Epoch seconds at the trace's beginning: for schedules and the forecast."""
    plan: forecast.Plan | None = None
    tick: float = TICK
    memory: Memory = field(default_factory=Memory)
    history: forecast.History | None = None
    _looked: float = -1e9

    def look(self, view: View) -> Look:
        wall = self.wall + view.now
        seen = Observation(
            lag=view.lag,
            in_flight=view.in_flight,
            current=view.current,
            wall=wall,
            ready=view.ready,
            arrived=view.arrived,
            service_seconds=view.service,
            forecast=forecast.floor(self.history, self.plan, wall) if self.history and self.plan else None,
        )
        decision = decide(seen, self.policy, self.memory, view.now)
        self.memory, self._looked = decision.memory, view.now
        needed = decision.inputs.get("needed")
        if self.plan and isinstance(needed, int):
            self.history = forecast.observe(self.history or forecast.begin(self.plan), self.plan, wall, needed)
        return Look(decision.target if decision.changes else None, view.now + self.tick)

    def woken(self, now: float, current: int) -> float | None:
        return max(now + PUSH, self._looked + GAP) if current else now + PUSH
