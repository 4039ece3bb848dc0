"""How many workers a pool should have: `decide(observation, policy, memory, now)`, pure.

Owns the order of the rules, the reason and the next memory. Each rule is a module of its own and leaves a step; the
message is made of the steps. The order, in which the later wins:

1. Held or set: no Deployment; a supervisor that ended (zero); `kubectl scale` (spec.replicas, exactly that; not in
   shadow, where it is somebody else's number); pause All; lag unknown; what can't be true. Missing data never changes a
   number.
2. Need: the targets (`targets`) less what remote workers cover (`remote`), activationLag for a pool at zero, what the
   pool's rateLimit can feed, warmWorkers on top, the forecast from below.
3. Speed: tolerance, stabilization, idleAfter before the last worker goes, rate policies (`behavior`).
4. Bounds, at once: floors, ceilings, the group's allowance (`bounds`).
5. Holds: no node has room (no growth), pause Up or Down, data in doubt (no shrinking).

Example: 7 in flight, 40 waiting, lagPerSlot 10, 4 slots a worker: (7 + 4) / 4 = 2.75, so 3 workers.
"""

from millpond_scaling import rates
from millpond_scaling.behavior import changes_until, limit_rate, stabilize, within_tolerance
from millpond_scaling.bounds import apply_bounds, apply_holds
from millpond_scaling.model import Decision, Memory, Observation, Policy, Value
from millpond_scaling.remote import cover
from millpond_scaling.sanity import impossible
from millpond_scaling.targets import Load, Need, fed_by_rate, highest_need, round_up
from millpond_scaling.trail import Trail, count

PAUSED_BY_SUPERVISOR = "PausedBySupervisor"
REASONS = {
    "scaleUp.stabilization": "Stabilizing",
    "scaleDown.stabilization": "Stabilizing",
    "idleAfter": "Stabilizing",
    "scaleUp.policies": "RateLimited",
    "scaleDown.policies": "RateLimited",
    "activationLag": "Inactive",
    "remote": "ServedRemotely",
    "rateLimit": "TaskRateLimited",
    "unschedulable": "Unschedulable",
    "pause": "Paused",
}
"""Why a number stays though another is needed; where no rule of these was the last to matter, it is Steady."""


def decide(seen: Observation, policy: Policy, memory: Memory, now: float) -> Decision:
    """The decision at `now` (seconds on any steady clock)."""
    if seen.current is None:
        return Decision(0, 0, "NoDeployment", "the Deployment does not exist yet", memory=memory)
    current, wrong = seen.current, impossible(seen, policy)
    if seen.paused_by:
        return _held(seen, policy, memory, now, (PAUSED_BY_SUPERVISOR, 0, seen.paused_by))
    if policy.manual is not None and not policy.shadow:
        return _held(
            seen, policy, memory, now, ("Manual", policy.manual, f"kubectl scale holds it at {count(policy.manual)}")
        )
    if policy.pause == "All":
        return _held(seen, policy, memory, now, ("Paused", current, f"scaling is paused at {count(current)}"))
    if seen.lag is None:
        text = f"NATS does not say how many tasks wait: holding {count(current)}"
        return _held(seen, policy, memory, now, ("LagUnknown", current, text))
    if wrong:
        return _held(seen, policy, memory, now, ("Contradictory", current, f"{wrong}: holding {count(current)}"))
    return _automatic(seen, policy, memory, now)


def _held(seen: Observation, policy: Policy, memory: Memory, now: float, what: tuple[str, int, str]) -> Decision:
    """A number that no need speaks for. What runs counts as needed meanwhile: the windows begin anew after it."""
    reason, workers, text = what
    current = seen.current or 0
    trail = Trail(workers)
    trail.start(reason, workers, text)
    needs, lows = stabilize(Trail(max(0, current)), memory, policy, max(0, current), now)
    changes = changes_until(memory, policy, max(0, current), now)
    measured = rates.update(seen, policy, memory, now)
    memory = Memory(needs, None, changes, measured, lows, (now, max(0, current)))
    return Decision(current, workers, reason, text, "", _inputs(seen, policy), memory, tuple(trail.steps))


def _automatic(seen: Observation, policy: Policy, memory: Memory, now: float) -> Decision:
    assert seen.current is not None
    assert seen.lag is not None
    current, in_flight = seen.current, seen.in_flight or 0
    measured = rates.update(seen, policy, memory, now)
    resting = seen.lag == 0 and seen.in_flight == 0 and not rates.moved(memory.rates, measured)
    load = Load(max(0, seen.lag - in_flight), in_flight, seen, measured)
    if seen.remote_slots:
        # To the pods it is all the same whether there is no work or whether others do all of it.
        covered = cover(highest_need(load, policy).raw, seen, policy, memory, now)
        resting = resting or (covered.slots > 0 and covered.raw <= 0)
    since = (now if memory.empty_since is None else memory.empty_since) if resting else None
    idle = since is not None and now - since >= policy.idle_after

    load = Load(load.waiting, in_flight, seen, () if idle else measured)
    need = highest_need(load, policy)
    trail = Trail(need.workers)
    trail.start(need.rule, need.workers, _load_text(load, need))
    covered = cover(need.raw, seen, policy, memory, now)
    if covered.slots:
        trail.to("remote", round_up(covered.raw), f"{covered.slots} remote slots leave {count(round_up(covered.raw))}")
    elif covered.why_not:
        trail.note("remote", covered.why_not)
    _adjust(trail, covered.raw, seen, policy)
    needs, lows = stabilize(trail, memory, policy, current, now)
    if not idle and current > 0 and seen.in_flight is not None:
        trail.to("idleAfter", max(trail.workers, 1), f"idleAfter keeps {count(1)}")
    changes = changes_until(memory, policy, current, now)
    limit_rate(trail, changes, policy, current, now)
    floor, ceiling = apply_bounds(trail, seen, policy)
    apply_holds(trail, seen, policy, current)

    inputs = _inputs(seen, policy) | {"waiting": load.waiting, "needed": need.workers}
    if floor != policy.min_workers or ceiling != policy.max_workers:
        inputs |= {"floor": floor, "ceiling": ceiling}
    if policy.latency is not None:
        inputs["arrivalRate"] = round(sum(rate for _, _, _, rate in measured), 3)
    clamp = trail.clamp if trail.workers != need.workers else ""
    memory = Memory(needs, since, changes, measured, lows, (now, current), covered.stalled)
    reason = _reason(trail, current, blind=seen.in_flight is None)
    return Decision(current, trail.workers, reason, trail.message(), clamp, inputs, memory, tuple(trail.steps))


def _adjust(trail: Trail, raw: float, seen: Observation, policy: Policy) -> None:
    """From what is needed of pods to what is wished for now: activation, warm workers, forecast, tolerance."""
    assert seen.current is not None
    assert seen.lag is not None
    if policy.activation and seen.current == 0 and seen.lag <= policy.activation:
        raw = 0.0
        trail.to("activationLag", 0, f"activationLag {policy.activation} keeps it at zero")
    fed = fed_by_rate(seen, policy)
    if fed is not None and fed < trail.workers:
        raw = float(fed)
        trail.to("rateLimit", fed, f"rateLimit {policy.rate:g}/s keeps no more than {count(fed)} busy")
    if policy.warm:
        raw += policy.warm
        trail.to("warmWorkers", round_up(raw), f"warmWorkers adds {policy.warm}")
    if seen.forecast is not None:
        raw = max(raw, float(seen.forecast))
        trail.to("forecast", max(trail.workers, seen.forecast), f"the forecast raises it to {seen.forecast}")
    if within_tolerance(raw, seen.current, policy):
        trail.to("tolerance", seen.current, f"tolerance leaves {count(seen.current)}")


def _reason(trail: Trail, current: int, *, blind: bool) -> str:
    if blind:
        return "HeartbeatsMissing"
    if trail.workers != current:
        return "ScaleUp" if trail.workers > current else "ScaleDown"
    if trail.clamp == "doubt":
        return "Contradictory"
    return REASONS.get(trail.clamp, "Steady")


def _load_text(load: Load, need: Need) -> str:
    if load.seen.in_flight is None:
        return f"{load.waiting} in the queue need {count(need.workers)}{need.aside}"
    if not load.waiting and not load.in_flight and not need.workers:
        return "nothing waits or runs"
    return f"{load.waiting} waiting and {load.in_flight} in flight need {count(need.workers)}{need.aside}"


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
    if seen.ready is not None:
        inputs["ready"] = seen.ready
    if seen.service_seconds is not None:
        inputs["serviceSeconds"] = round(seen.service_seconds, 4)
    if seen.allowance is not None:
        inputs |= {"allowance": seen.allowance, "group": seen.group}
    if seen.forecast is not None:
        inputs["forecast"] = seen.forecast
    if seen.remote_slots:
        inputs |= {"remoteSlots": seen.remote_slots, "remoteInFlight": seen.remote_in_flight}
    if seen.unschedulable:
        inputs["unschedulable"] = seen.unschedulable
    if policy.shadow:
        inputs["mode"] = "Shadow"
    return inputs
