"""What can't be true is not acted on: the observations that contradict themselves.

Owns the judgement alone. A number that can't be is held at once (`impossible`); numbers that were read at different
moments and don't fit together yet forbid shrinking only (`doubtful`). Both are said. A counter that falls or jumps is
the matter of `rates`.
"""

from millpond_scaling.model import Observation, Policy


def impossible(seen: Observation, policy: Policy) -> str:
    """Why this can't be true, as a clause; empty when it can."""
    for name, value in (
        ("lag", seen.lag),
        ("tasks in flight", seen.in_flight),
        ("workers", seen.current),
        ("ready workers", seen.ready),
        ("unschedulable pods", seen.unschedulable),
        ("allowance", seen.allowance),
        ("forecast", seen.forecast),
        ("arrivals", seen.arrived),
        ("remote slots", seen.remote_slots),
        ("tasks in flight elsewhere", seen.remote_in_flight),
    ):
        if value is not None and value < 0:
            return f"{name} of {value} can't be"
    for one in seen.classes:
        if one.waiting < 0 or one.arrived < 0:
            return f"{min(one.waiting, one.arrived)} tasks of class {one.name} can't be"
    if seen.lag is None or seen.in_flight is None or seen.current is None:
        return ""
    # Heartbeats are up to some seconds older than the lag: all slots may have finished in between, but no more.
    slots = max(seen.current, seen.ready or 0) * policy.slots + seen.remote_slots
    if seen.in_flight > seen.lag + slots:
        return f"{seen.in_flight} in flight of {seen.lag} in the queue can't be with {slots} slots"
    return ""


def doubtful(seen: Observation) -> str:
    """Why nothing should be taken away for now, as a clause; empty when all is clear."""
    if seen.in_flight is None:
        return "heartbeats are missing"
    if seen.ready is not None and seen.current is not None and seen.ready > seen.current:
        return f"{seen.ready} workers are ready where {seen.current} were asked for"
    return ""
