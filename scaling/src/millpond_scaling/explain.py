"""Why there are so many workers: a recorded decision told in sentences and as the rules it went through. Pure.

Owns the words around the decision's own sentence, which is never changed: it stands in the condition, the Event, the
log and the ledger, and whoever compares them must find the same text. Reads decisions of any age: what an older one
does not hold (steps) is left out, not guessed.
"""

from dataclasses import dataclass

from millpond_scaling.model import Decision, Observation, Policy
from millpond_scaling.records import Difference, Record

HELD = {
    "NoDeployment": "There is nothing to scale yet.",
    "Manual": "A number set by hand stands above everything that the queue says.",
    "PausedBySupervisor": "Its tasks wait in the queue until the supervisor starts it again; none is lost.",
    "Paused": "A paused pool keeps its number; its workers go on with what is queued.",
    "LagUnknown": "What is not known never changes a number.",
    "Contradictory": "Numbers that cannot all be true move nobody, or at most upwards.",
    "HeartbeatsMissing": "While workers are silent, workers may come but none may go.",
}
"""What is said besides, where a decision was held."""


@dataclass(frozen=True)
class StepLine:
    """One rule: its name, the number of workers after it, how that changed the number before, and its sentence."""

    rule: str
    workers: int
    change: str
    text: str


def headline(decision: Decision) -> str:
    """What was done to the number: `20 workers, from 5`, `5 workers, as before`."""
    if decision.changes:
        return f"{workers(decision.target)}, from {decision.current}"
    return f"{workers(decision.target)}, as before"


def remarks(record: Record) -> list[str]:
    """Sentences besides the decision's own: why it was held, and who acts on it."""
    found = [HELD[record.decision.reason]] if record.decision.reason in HELD else []
    if record.policy.shadow:
        found.append("Shadow mode: this is what Millpond would do; somebody else sets the number.")
    elif record.decision.changes and not record.acted:
        found.append("It was not acted on at once: workers that have to drain first, or a change under way, held it.")
    return found


def steps(decision: Decision) -> list[StepLine]:
    """The rules in the order in which they were applied."""
    lines, before = [], None
    for step in decision.steps:
        change = "" if before is None or step.workers == before else f"{step.workers - before:+d}"
        lines.append(StepLine(step.rule, step.workers, change, step.text))
        before = step.workers
    return lines


def seen_text(seen: Observation) -> str:
    """What was looked at, in one line; what was not known is called unknown."""
    facts = {
        "lag": seen.lag,
        "in flight": seen.in_flight,
        "workers": seen.current,
        "ready": seen.ready,
    }
    parts = [f"{name} {'unknown' if value is None else value}" for name, value in facts.items()]
    if seen.service_seconds is not None:
        parts.append(f"service time {seen.service_seconds:.3g} s")
    if seen.remote_slots:
        parts.append(f"remote slots {seen.remote_slots} ({seen.remote_in_flight} in flight)")
    if seen.unschedulable:
        parts.append(f"{seen.unschedulable} pods without a node")
    if seen.allowance is not None:
        parts.append(f"allowed by {seen.group or 'its group'}: {seen.allowance}")
    if seen.forecast is not None:
        parts.append(f"forecast {seen.forecast}")
    return ", ".join(parts)


def policy_text(policy: Policy) -> str:
    """The policy's numbers in one line."""
    targets = {
        "lagPerSlot": policy.lag_per_slot,
        "latency": None if policy.latency is None else f"{policy.latency:g} s",
        "utilization": None if policy.utilization is None else f"{policy.utilization:.0%}",
    }
    aims = [f"{name} {value}" for name, value in targets.items() if value is not None] or ["lagPerSlot 1"]
    return f"{policy.min_workers} to {workers(policy.max_workers)} of {policy.slots} slots, {', '.join(aims)}"


def difference_text(difference: Difference) -> str:
    """How a decision made again differs: the number first, else which fields."""
    old, new = difference.recorded, difference.made
    if difference.number:
        return f"{old.current} → {new.target} instead of {old.target}: {new.message} (recorded: {old.message})"
    if "message" in difference.fields:
        return f"the same number in other words: {new.message} (recorded: {old.message})"
    return f"the same number; these differ: {', '.join(difference.fields)}"


def workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"
