"""What workers outside the cluster take off the pods: their slots cover part of the need.

Owns the rule alone. A remote slot is worth a pod's slot, so the need in slots is lowered by all of them; never below
what the pods run themselves, and never raised. Free ones are believed only while they take tasks: where tasks wait and
none was taken for PATIENCE seconds, they can't serve these (another handler, another class, a worker that hangs), and
the pods are counted as if nobody else were there. What is not known (`in_flight` None) covers nothing.
"""

from dataclasses import dataclass

from millpond_scaling.model import Memory, Observation, Policy

PATIENCE = 10.0
"""Seconds: a free worker takes a task within milliseconds, and its heartbeat says so within three seconds."""

Stalled = tuple[float, int] | None


@dataclass(frozen=True)
class Cover:
    """`raw` workers are still needed of pods; `slots` that were counted; why none were, where there are some."""

    raw: float
    slots: int = 0
    why_not: str = ""
    stalled: Stalled = None


def cover(raw: float, seen: Observation, policy: Policy, memory: Memory, now: float) -> Cover:
    """The need of `raw` workers in all, less what remote workers have slots for."""
    if not seen.remote_slots or seen.lag is None or seen.in_flight is None:
        return Cover(raw)
    waiting = max(0, seen.lag - seen.in_flight)
    free = seen.remote_slots > seen.remote_in_flight
    stalled = _stalled(seen, memory, waiting, now) if waiting and free else None
    if stalled is not None and now - stalled[0] >= PATIENCE:
        text = f"{seen.remote_slots} remote slots take none of what waits"
        return Cover(raw, why_not=text, stalled=stalled)
    inside = max(0, seen.in_flight - seen.remote_in_flight)
    left = max(inside / policy.slots, raw - seen.remote_slots / policy.slots, 0.0)
    return Cover(min(raw, left), seen.remote_slots, stalled=stalled)


def _stalled(seen: Observation, memory: Memory, waiting: int, now: float) -> Stalled:
    """Since when no task has left those that wait; the counter of arrivals tells apart who waits from who came."""
    taken = (seen.arrived or 0) - waiting
    known = memory.stalled
    return known if known is not None and taken <= known[1] else (now, taken)
