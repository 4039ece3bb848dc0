"""Which task holds up a drain: pure. A drain waits for what runs, however long; so it must say what that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from millpond_operator.decisions.conditions import Fact


@dataclass(frozen=True)
class Held:
    """A task that a draining worker still runs."""

    task: str
    handler: str
    since: datetime


@dataclass(frozen=True)
class Drain:
    """A worker that takes nothing new, since when, and what it still runs."""

    worker: str
    since: datetime
    runs: tuple[Held, ...] = ()


def decide_draining(drains: Sequence[Drain], patience: timedelta, now: datetime) -> Fact:
    """The condition Draining; its reason is Stalled when a drain lasts longer than `patience`.

    Times are named, not durations: a condition must not change every second.
    """
    if not drains:
        return Fact("Draining", False, "NobodyDrains")
    oldest = min(drains, key=lambda one: (one.since, one.worker))
    others = f"; {len(drains) - 1} more drain{'s' if len(drains) == 2 else ''}" if len(drains) > 1 else ""
    if now - oldest.since <= patience:
        return Fact("Draining", True, "Finishing", f"worker {oldest.worker} finishes what it runs{others}")
    if not oldest.runs:
        return Fact("Draining", True, "Stalled", f"worker {oldest.worker} is drained and not removed yet{others}")
    task = min(oldest.runs, key=lambda one: (one.since, one.task))
    text = (
        f"held by task {task.task} ({task.handler}, running since {task.since:%Y-%m-%d %H:%M:%S} UTC) on worker "
        f"{oldest.worker}, which drains since {oldest.since:%Y-%m-%d %H:%M:%S} UTC{others}"
    )
    return Fact("Draining", True, "Stalled", text)
