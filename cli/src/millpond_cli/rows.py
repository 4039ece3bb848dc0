"""What a pool, a task and a worker look like in one line: from their JSON to the cells of a table. Pure.

Owns the columns of `get` and `watch` and the words for ages and states. It reads objects tolerantly (`or` on every
optional field): a status that the operator has not written yet shows as blanks, never as an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millpond_api.durations import format_duration

Object = dict[str, Any]

STYLES = {
    "Succeeded": "green", "Running": "cyan", "Busy": "cyan", "Leased": "cyan", "Failed": "red", "Lost": "red",
    "Expired": "yellow", "Backoff": "yellow", "Draining": "yellow", "Starting": "yellow", "Cancelled": "dim",
    "Stopped": "dim", "Idle": "green", "Restarting": "yellow", "Pausing": "yellow", "Paused": "yellow",
    "Degraded": "red", "Missing": "red", "Refused": "red",
}  # fmt: skip

POOL_COLUMNS = ("POOL", "WORKERS", "BUSY", "LAG", "WAITING", "IN FLIGHT", "MODE", "STATUS", "LAST DECISION")
TASK_COLUMNS = ("TASK", "POOL", "HANDLER", "PHASE", "ATTEMPTS", "DURATION", "AGE", "WORKER", "REASON")
WORKER_COLUMNS = ("WORKER", "POOL", "STATE", "SLOTS", "DONE", "FAILED", "SINCE", "RUNS")

MESSAGE_LENGTH = 100


@dataclass(frozen=True)
class Row:
    """Cells in the order of the columns, and the state that colours the row."""

    key: str
    cells: tuple[str, ...]
    state: str = ""


def status_of(item: Object) -> Object:
    return item.get("status") or {}


def name_of(item: Object, everywhere: bool = False) -> str:
    metadata = item["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}" if everywhere else str(metadata["name"])


def pool_row(pool: Object, everywhere: bool = False) -> Row:
    """Workers as ready/desired; the last decision is the operator's own sentence."""
    status = status_of(pool)
    counts = status.get("workers") or {}
    decisions = status.get("decisions") or [{}]
    cells = (
        name_of(pool, everywhere),
        f"{status.get('readyReplicas', 0)}/{status.get('desired', 0)}",
        str(counts.get("busy", 0)),
        str(status.get("lag", 0)),
        str(status.get("waiting", 0)),
        str(status.get("inFlight", 0)),
        str(status.get("mode", "")),
        ready_reason(pool),
        shorten(str(decisions[0].get("message", "")), MESSAGE_LENGTH),
    )
    return Row(name_of(pool, everywhere), cells)


def ready_reason(item: Object) -> str:
    """The reason of the Ready condition, and of Degraded when that is true: what is wrong matters more."""
    conditions = {c.get("type"): c for c in status_of(item).get("conditions") or []}
    degraded = conditions.get("Degraded") or {}
    if degraded.get("status") == "True":
        return f"Degraded: {degraded.get('reason', '')}"
    ready = conditions.get("Ready") or {}
    return str(ready.get("reason", ""))


def task_row(task: Object, now: datetime, everywhere: bool = False) -> Row:
    spec, status = task["spec"], status_of(task)
    phase = str(status.get("phase") or "Pending")
    cells = (
        name_of(task, everywhere),
        str(spec.get("pool", "")),
        str(spec.get("handler", "")),
        phase,
        str(status.get("attempts", 0)),
        str(status.get("duration", "")),
        age(task["metadata"].get("creationTimestamp"), now),
        str(status.get("worker", "")),
        shorten(": ".join(filter(None, (status.get("reason"), status.get("message")))), MESSAGE_LENGTH),
    )
    return Row(name_of(task, everywhere), cells, phase)


def worker_row(worker: Object, now: datetime, everywhere: bool = False) -> Row:
    """Slots as in flight/slots; RUNS says each task with its handler, time and progress, or why the worker ended."""
    status = status_of(worker)
    state = str(status.get("state") or "Starting")
    cells = (
        name_of(worker, everywhere),
        str((worker.get("spec") or {}).get("pool", "")),
        state,
        f"{status.get('inFlight', 0)}/{status.get('slots', 0)}",
        str(status.get("succeeded", 0)),
        str(status.get("failed", 0)),
        age(status.get("since"), now),
        shorten(doing(status, now), MESSAGE_LENGTH),
    )
    return Row(name_of(worker, everywhere), cells, state)


def doing(status: Object, now: datetime) -> str:
    """What a worker runs, or the reason of its state."""
    running = [running_text(task, now) for task in status.get("running") or []]
    if running:
        return " · ".join(running)
    return ": ".join(filter(None, (status.get("reason"), status.get("message"))))


def running_text(task: Object, now: datetime) -> str:
    """`parse-ast (census.parse, 3s): 40%`"""
    details = [str(task.get("handler", "")), age(task.get("since"), now)]
    if int(task.get("attempt") or 1) > 1:
        details.append(f"attempt {task['attempt']}")
    text = f"{task.get('task', '')} ({', '.join(filter(None, details))})"
    return f"{text}: {task['progress']}" if task.get("progress") else text


def age(text: str | None, now: datetime) -> str:
    """How long ago, as kubectl writes it; empty when unknown."""
    moment = parse_time(text)
    return format_duration(round(max(0.0, (now - moment).total_seconds()))) if moment else ""


def parse_time(text: str | None) -> datetime | None:
    """A Kubernetes time, with or without a fraction."""
    return datetime.fromisoformat(text) if text else None


def shorten(text: str, length: int) -> str:
    """One line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def pick(items: Iterable[Object], pool: str = "", phase: str = "") -> list[Object]:
    """The objects of a pool and in a phase (for workers: a state), any case; all of them when neither is given."""
    wanted = phase.lower()

    def fits(item: Object) -> bool:
        spec, status = item.get("spec") or {}, status_of(item)
        mine = item["metadata"]["name"] if item.get("kind") == "WorkerPool" else spec.get("pool")
        state = str(status.get("phase") or status.get("state") or "Pending")
        return (not pool or mine == pool) and (not wanted or state.lower() == wanted)

    return [item for item in items if fits(item)]
