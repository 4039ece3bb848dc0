"""A pool's life on a trace of arrivals, under our policy or another scaler's: pure, seeded, event by event.

Owns what is assumed of the world (`machine`: a queue, workers that start, run and end; `model`: the assumptions), the
traces, and the rivals' published formulas. Ours is not imitated: `ours` calls the operator's own `decide`. Figures from
here compare policies under equal assumptions; they are no measurement of any cluster.
"""

from millpond_scaling.simulate.machine import simulate
from millpond_scaling.simulate.model import Arrival, Outcome, PodStart, Setting, View

__all__ = ["Arrival", "Outcome", "PodStart", "Setting", "View", "simulate"]
