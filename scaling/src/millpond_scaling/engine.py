"""How many workers a pool should have: `decide(observation, policy, memory, now)`, pure.

The rules, in the order in which they win:
1. Held: paused, or what is needed to decide is missing. Missing data never changes a number.
2. Manual: `kubectl scale` set spec.replicas; exactly that.
3. Automatic: tasks in flight occupy one slot each, waiting tasks share slots by `lag_per_slot`;
   workers = ceil((in flight + ceil(waiting / lag_per_slot)) / slots), within minWorkers and maxWorkers.
   Example: 7 in flight, 40 waiting, lagPerSlot 10, 4 slots a worker: (7 + 4) / 4 = 2.75, so 3 workers.
   Growing is immediate. Shrinking goes to the highest number needed within `stabilization` (the HPA's downscale
   stabilization window), and to minWorkers only once the queue has been empty for `idle_after`.

The result carries one sentence that feeds log, Event, condition and ledger alike.
"""

import math
from dataclasses import dataclass, replace

from millpond_scaling.model import Decision, Memory, Observation, Policy, Value


def decide(seen: Observation, policy: Policy, memory: Memory, now: float) -> Decision:
    """The decision at `now` (seconds on any steady clock)."""
    if seen.current is None:
        return Decision(0, 0, "NoDeployment", "the Deployment does not exist yet", memory=memory)
    current = seen.current
    inputs = _inputs(seen, policy)
    if policy.manual is not None:
        text = f"kubectl scale holds it at {_workers(policy.manual)}"
        return Decision(current, policy.manual, "Manual", text, inputs=inputs, memory=memory)
    if policy.pause == "All":
        return Decision(current, current, "Paused", f"scaling is paused at {_workers(current)}", "", inputs, memory)
    if seen.lag is None:
        text = f"NATS does not say how many tasks wait: holding {_workers(current)}"
        return Decision(current, current, "LagUnknown", text, inputs=inputs, memory=memory)
    if seen.in_flight is None:
        return _decide_blind(current, seen.lag, policy, memory, inputs)
    return _decide_auto(current, seen.lag, seen.in_flight, policy, _Context(memory, now, inputs))


@dataclass(frozen=True)
class _Context:
    memory: Memory
    now: float
    inputs: dict[str, Value]


def _decide_blind(current: int, lag: int, policy: Policy, memory: Memory, inputs: dict[str, Value]) -> Decision:
    """Some workers are silent: the lag alone may add workers, but nothing may be taken away."""
    needed = min(policy.max_workers, math.ceil(math.ceil(lag / (policy.lag_per_slot or 1.0)) / policy.slots))
    target = max(current, needed, policy.min_workers) if lag else max(current, policy.min_workers)
    text = f"heartbeats are missing: holding {_workers(current)}"
    if target > current:
        text = f"{lag} tasks in the queue need {_workers(target)} (heartbeats are missing: nothing is taken away)"
    return Decision(current, target, "HeartbeatsMissing", text, inputs=inputs, memory=memory)


def _decide_auto(current: int, lag: int, in_flight: int, policy: Policy, context: _Context) -> Decision:
    waiting = max(0, lag - in_flight)
    slots_needed = in_flight + math.ceil(waiting / (policy.lag_per_slot or 1.0))
    needed = math.ceil(slots_needed / policy.slots)
    empty_since = None if lag or in_flight else _since(context.memory.empty_since, context.now)
    bounded = min(max(needed, policy.min_workers), policy.max_workers)
    clamp = _clamp(needed, bounded, policy)
    memory = _remember(context, current, bounded, empty_since, policy)
    load = f"{waiting} waiting and {in_flight} in flight"
    inputs = context.inputs | {"waiting": waiting, "needed": needed}

    def make(target: int, reason: str, message: str) -> Decision:
        return Decision(current, target, reason, message, clamp, inputs, memory)

    if bounded > current:
        return make(bounded, "ScaleUp", f"{load} need {_workers(bounded)}{_clamped(clamp, needed, policy)}")
    if bounded == current:
        text = f"{load}: {_workers(current)} {'is' if current == 1 else 'are'} right{_clamped(clamp, needed, policy)}"
        return make(current, "Steady", text)
    window = min(max(need for _, need in memory.needs), policy.max_workers)
    held = max(window, 1) if _resting(empty_since, policy, context.now) else window
    target = min(current, max(held, bounded))
    if target < current:
        return make(target, "ScaleDown", f"{load} need {_workers(target)}{_clamped(clamp, needed, policy)}")
    wait = "idleAfter" if window < current else "scaleDown.stabilization"
    return make(current, "Stabilizing", f"{load}: {_workers(current)} kept until {wait} has passed")


def _resting(empty_since: float | None, policy: Policy, now: float) -> bool:
    """Whether the last worker must still wait for idle_after."""
    return empty_since is None or now - empty_since < policy.idle_after


def _since(known: float | None, now: float) -> float:
    return now if known is None else known


def _remember(context: "_Context", current: int, needed: int, empty_since: float | None, policy: Policy) -> Memory:
    """The needs of the window, thinned to what can still be its maximum: a later, higher need hides earlier ones."""
    # A new leader knows nothing of the time before it: what runs counts as needed until the window has passed.
    memory, now = context.memory, context.now
    known = memory.needs or ((now, current),)
    kept = tuple((at, need) for at, need in known if now - at <= policy.scale_down.stabilization and need > needed)
    return replace(memory, needs=(*kept, (now, needed)), empty_since=empty_since)


def _inputs(seen: Observation, policy: Policy) -> dict[str, Value]:
    inputs: dict[str, Value] = {
        "lag": "unknown" if seen.lag is None else seen.lag,
        "inFlight": "unknown" if seen.in_flight is None else seen.in_flight,
        "min": policy.min_workers,
        "max": policy.max_workers,
        "slots": policy.slots,
    }
    if seen.wake_delay_ms is not None:
        inputs["wakeDelayMs"] = round(seen.wake_delay_ms, 1)
    return inputs


def _clamp(needed: int, bounded: int, policy: Policy) -> str:
    if needed > bounded:
        return "maxWorkers"
    return "minWorkers" if needed < bounded else ""


def _clamped(clamp: str, needed: int, policy: Policy) -> str:
    if clamp == "maxWorkers":
        return f" (maxWorkers; {needed} would be needed)"
    return f" (minWorkers; {needed} would do)" if clamp == "minWorkers" else ""


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"
