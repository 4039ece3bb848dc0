"""Why a pool has so many workers, as lines for people: from its object alone, or from a recorded decision. Pure.

Owns the order of what is said: the number, the sentence, what stands in its way, what led to it. The sentence is the
operator's own and is printed unchanged, so that it is the same text as in the condition, the Event and the log. Reads
objects tolerantly: a status that has not been written yet is said to be missing.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millpond_scaling import explain
from millpond_scaling.engine import PAUSED_BY_SUPERVISOR
from millpond_scaling.records import Record

from millpond_cli.rows import Object, Row, age, status_of

DECISION_COLUMNS = ("AGE", "FROM", "TO", "REASON", "RULE", "SENTENCE")
STEP_COLUMNS = ("RULE", "WORKERS", "CHANGE", "SENTENCE")


@dataclass(frozen=True)
class Section:
    """A small table under a title."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row]


@dataclass
class Story:
    """What is printed: lines, then tables."""

    lines: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


def tell_pool(pool: Object, now: datetime) -> Story:
    """The pool as it stands, by its status."""
    name, spec, status = pool["metadata"]["name"], pool.get("spec") or {}, status_of(pool)
    if not status:
        return Story([f"{name} has no status yet: is the operator running?"])
    story = Story([_count_line(name, status), _sentence(status)])
    story.lines += _mode_lines(spec, status)
    story.lines += _trouble_lines(status)
    if status.get("forecast"):
        story.lines.append(str(status["forecast"]))
    decisions = status.get("decisions") or []
    if decisions:
        rows = [_decision_row(index, entry, now) for index, entry in enumerate(decisions)]
        story.sections.append(Section("The last changes", DECISION_COLUMNS, rows))
    else:
        story.lines.append("The number of workers has not changed since the ledger began.")
    return story


def tell_record(record: Record, moment: datetime) -> Story:
    """A decision with all that it was made from; `moment` is the time that was asked for."""
    decision = record.decision
    since = (moment - datetime.fromisoformat(record.at)).total_seconds()
    story = Story(
        [f"{record.pool}: {explain.headline(decision)} ({decision.reason}, {record.at}, {since:.1f} s before)"]
    )
    story.lines += [decision.message, *explain.remarks(record)]
    story.lines.append(f"seen: {explain.seen_text(record.seen)}")
    story.lines.append(f"policy: {explain.policy_text(record.policy)}")
    steps = explain.steps(decision)
    if steps:
        rows = [Row(str(i), (s.rule, str(s.workers), s.change, s.text)) for i, s in enumerate(steps)]
        story.sections.append(Section("How the number came about", STEP_COLUMNS, rows))
    return story


def scaling_sentence(status: Object) -> str:
    """The Scaling condition's message, word for word; empty when there is none."""
    return str(_condition(status, "Scaling").get("message") or "")


def _condition(status: Object, kind: str) -> Object:
    return next((c for c in status.get("conditions") or [] if c.get("type") == kind), {})


def _count_line(name: str, status: Object) -> str:
    counts: dict[str, Any] = status.get("workers") or {}
    states = ", ".join(f"{counts[state]} {state}" for state in counts if counts[state])
    wanted, ready = int(status.get("desired") or 0), int(status.get("readyReplicas") or 0)
    remote = int(status.get("remoteWorkers") or 0)
    if remote:
        states += f"; {remote} of them remote, with {status.get('remoteSlots', 0)} slots"
    return f"{name}: {explain.workers(wanted)} asked for, {ready} ready" + (f" ({states})" if states else "")


def _sentence(status: Object) -> str:
    return scaling_sentence(status) or "No decision has been written yet."


def _mode_lines(spec: Object, status: Object) -> list[str]:
    mode = status.get("mode")
    if mode == "Manual":
        return [f"Manual: kubectl scale set {spec.get('replicas')}; `millpond unpin` lets it follow its queue again."]
    if mode == "Shadow":
        return ["Shadow: Millpond decides and says so; somebody else sets the number (spec.replicas, KEDA, an HPA)."]
    if _condition(status, "Paused").get("reason") == PAUSED_BY_SUPERVISOR:
        return ["Paused: its supervisor ended and holds it at zero; `millpond tree` shows which one to reset."]
    if mode == "Paused":
        pause = (spec.get("scaling") or {}).get("pause", "All")
        return [f"Paused ({pause}): spec.scaling.pause holds it; set it to None to go on."]
    return []


def _trouble_lines(status: Object) -> list[str]:
    lines = []
    for condition in status.get("conditions") or []:
        wrong = "True" if condition.get("type") in ("Degraded", "Limited") else "False"
        told = condition.get("type") in ("Degraded", "Limited", "Ready")
        if told and condition.get("status") == wrong:
            text = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
            lines.append(f"{'Not ready' if condition['type'] == 'Ready' else condition['type']}: {text}")
    return lines


def _decision_row(index: int, entry: Object, now: datetime) -> Row:
    before, after = entry.get("from", ""), entry.get("to", "")
    cells = (
        age(entry.get("at"), now),
        str(before),
        # Shadow mode and refused growth are written down too: what would have been, and what was held.
        f"({after})" if entry.get("acted") is False and after != before else str(after),
        str(entry.get("reason", "")),
        str(entry.get("clamp") or ""),
        str(entry.get("message", "")),
    )
    return Row(str(index), cells)
