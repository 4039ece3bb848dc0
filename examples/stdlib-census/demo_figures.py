"""What the demo found, as figures: from the objects that Kubernetes holds to a summary and a verdict. Pure.

Owns the arithmetic and the promises that are checked (every task ended, no busy worker stopped, back at zero). It must
not read a cluster or a clock: it gets objects, so that its tests can show each promise broken.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from millpond_api.lifecycle import TERMINAL, WORKER_ENDED, WorkerState
from millpond_cli.rows import parse_time, status_of

Object = dict[str, Any]
SHOWN_FAILURES = 10
UNEXPLAINED = "no reason given"
EXPECTED_FAILURE = ": Unparsable: "
UNKNOWN = "not recorded"


@dataclass
class Seen:
    """What passed by while the demo watched: an object deleted since is still here, in its last version."""

    workers: dict[str, Object] = field(default_factory=dict)
    decisions: dict[str, Object] = field(default_factory=dict)
    peak_ready: int = 0
    ended: int = 0

    def look(self, pools: Iterable[Object], workers: Iterable[Object]) -> None:
        """Takes one picture of pools and workers into account."""
        for pool in pools:
            status = status_of(pool)
            self.peak_ready = max(self.peak_ready, int(status.get("readyReplicas") or 0))
            counts = status.get("tasks") or {}
            self.ended = sum(int(counts.get(phase.lower()) or 0) for phase in TERMINAL)
            self.decisions.update({decision["at"]: decision for decision in status.get("decisions") or []})
        self.workers.update({worker["metadata"]["name"]: worker for worker in workers})


@dataclass(frozen=True)
class Figures:
    """The summary's figures. Times are in seconds; None where the objects do not say."""

    files: int
    phases: dict[str, int]
    failures: list[str]
    wake_ms: float | None
    peak_workers: int
    drain_seconds: float | None
    interrupted: list[str]
    busy_stopped: list[str]


def make_figures(files: int, tasks: list[Object], wake_ms: float | None, seen: Seen) -> Figures:
    """All figures of the parse tasks."""
    return Figures(
        files=files,
        phases=dict(Counter(str(status_of(task).get("phase") or "Pending") for task in tasks).most_common()),
        failures=[failure_of(task) for task in tasks if status_of(task).get("phase") == "Failed"],
        wake_ms=wake_ms,
        peak_workers=seen.peak_ready,
        drain_seconds=drain_seconds(tasks),
        interrupted=sorted(task["metadata"]["name"] for task in tasks if was_interrupted(task)),
        busy_stopped=sorted(name for name, worker in seen.workers.items() if ended_busy(worker)),
    )


def failure_of(task: Object) -> str:
    """`parse-x: Unparsable: …`, or the reason alone where there is no error."""
    status = status_of(task)
    error = status.get("error") or {}
    why = (
        ": ".join(filter(None, (error.get("type"), error.get("message")))) or status.get("reason") or "no reason given"
    )
    return f"{task['metadata']['name']}: {why}"


def wake_ms(first_task: Object, decisions: Iterable[Object]) -> float | None:
    """Milliseconds from the first stored publish to the decision that woke the pool from zero.

    The operator measures it (`wakeDelayMs`); where it does not, both moments come from its own clock in the objects.
    """
    woken = sorted((d for d in decisions if d.get("from") == 0 and d.get("to", 0) > 0), key=lambda d: str(d["at"]))
    if not woken:
        return None
    measured = (woken[0].get("inputs") or {}).get("wakeDelayMs")
    if measured is not None:
        return float(measured)
    queued, decided = parse_time(status_of(first_task).get("queuedAt")), parse_time(woken[0].get("at"))
    return (decided - queued).total_seconds() * 1000 if queued and decided else None


def drain_seconds(tasks: list[Object]) -> float | None:
    """From the first task in the queue to the last one ended."""
    starts = [parse_time(status_of(task).get("queuedAt") or task["metadata"]["creationTimestamp"]) for task in tasks]
    ends = [parse_time(status_of(task).get("finishedAt")) for task in tasks]
    if not tasks or not all(ends) or not all(starts):
        return None
    return (max(filter(None, ends)) - min(filter(None, starts))).total_seconds()


def was_interrupted(task: Object) -> bool:
    """Whether an attempt was cut off by its worker's end: released, or claimed again in the same attempt."""
    steps = status_of(task).get("transitions") or []
    taken_back = any(a["phase"] == "Running" and b["phase"] in ("Running", "Queued") for a, b in pairwise(steps))
    return taken_back or any(step.get("reason") == "Released" for step in steps)


def ended_busy(worker: Object) -> bool:
    """Whether the worker ended, or was lost, while it ran something."""
    status = status_of(worker)
    if status.get("state") not in {*WORKER_ENDED, WorkerState.LOST}:
        return False
    steps = [step["state"] for step in status.get("transitions") or []]
    straight_from_work = len(steps) > 1 and steps[-2] in (WorkerState.BUSY, WorkerState.LEASED)
    return bool(status.get("inFlight")) or straight_from_work


def broken_promises(figures: Figures, report: Object, workers_left: int) -> list[str]:
    """A sentence for each thing that is not as promised; none when all is well."""
    broken = []
    tasks = sum(figures.phases.values())
    ended = sum(count for phase, count in figures.phases.items() if phase in TERMINAL)
    succeeded = figures.phases.get("Succeeded", 0)
    if tasks != figures.files:
        broken.append(f"{figures.files} files, but {tasks} tasks: some are missing")
    if ended != tasks:
        broken.append(f"{tasks - ended} tasks have not ended")
    if other := set(figures.phases) & {"Cancelled", "Expired"}:
        broken.append(f"tasks ended as {', '.join(sorted(other))}, which nobody asked for")
    if unexplained := [line for line in figures.failures if line.endswith(UNEXPLAINED)]:
        broken.append(f"{len(unexplained)} tasks failed without a reason, such as {unexplained[0]}")
    if surprising := [line for line in figures.failures if EXPECTED_FAILURE not in line and UNEXPLAINED not in line]:
        broken.append(f"{len(surprising)} tasks failed for another reason than the parser's, such as {surprising[0]}")
    if report.get("parsed") != succeeded or report.get("files") != tasks:
        broken.append(f"the report counts {report.get('parsed')} parsed files, the tasks say {succeeded}")
    if figures.busy_stopped:
        broken.append(f"workers were stopped while busy: {', '.join(figures.busy_stopped)}")
    if figures.interrupted:
        broken.append(f"{len(figures.interrupted)} tasks were interrupted, such as {figures.interrupted[0]}")
    if workers_left:
        broken.append(f"{workers_left} worker pods are left, although the queue is empty")
    return broken


def summary_rows(figures: Figures, zero_seconds: float) -> list[tuple[str, str]]:
    """The summary's lines: what and how much."""
    phases = ", ".join(f"{count} {phase}" for phase, count in figures.phases.items())
    drain, wake = figures.drain_seconds, figures.wake_ms
    rate = f" ({figures.files / drain:.0f} tasks/s)" if drain else ""
    return [
        ("files of the standard library", str(figures.files)),
        ("tasks by phase", phases),
        (
            "first publish → first scale patch",
            UNKNOWN if wake is None else f"{wake:.0f} ms",
        ),
        ("peak workers ready", str(figures.peak_workers)),
        ("time to drain", UNKNOWN if drain is None else f"{drain:.1f} s{rate}"),
        ("back at zero workers", f"{zero_seconds:.1f} s after the last task"),
        ("busy workers stopped", str(len(figures.busy_stopped))),
        ("tasks interrupted", str(len(figures.interrupted))),
    ]


def head_of_sections(text: str, lines: int) -> str:
    """The first `lines` of each kind in the output of `kubectl get a,b,c`, and how many more there are."""
    shown = []
    for section in text.strip().split("\n\n"):
        rows = section.splitlines()
        rest = len(rows) - 1 - lines
        shown.append("\n".join([*rows[: lines + 1], *([f"… and {rest} more"] if rest > 0 else [])]))
    return "\n\n".join(shown)
