"""A worker that works but does not move: a task that hangs, an interpreter that is held. Pure.

Owns what the worker's condition `Hung` says and which Events are due. A worker that was never stuck has no such
condition: there are thousands of workers, and each word of a status is kept and written for all of them.
"""

from collections.abc import Sequence

from millpond_api.events import InFlight, WorkerEvent
from millpond_api.v1alpha1 import WorkerStatus
from millpond_api.v1alpha1.worker import RunningTask

from millpond_operator.decisions.conditions import Fact

CONDITION = "Hung"
STARVED = "a call into C holds the interpreter: nothing of the worker's Python runs, its understudy keeps the leases"


def make_running(task: InFlight) -> RunningTask:
    """A task that a worker runs, as its status shows it."""
    return RunningTask(
        task=task.object or task.task,
        handler=task.handler,
        attempt=task.attempt,
        since=task.since,
        progress=task.progress,
        hung=task.hung,
        where=task.where,
        owner=task.owner,
    )


def decide_stuck(status: WorkerStatus, before: WorkerStatus | None) -> list[Fact]:
    """The condition, for a worker that is stuck or was."""
    hung = [_say(task) for task in status.running if task.hung]
    if status.starved:
        return [Fact(CONDITION, True, "Starved", f"{STARVED}; since {status.starved:%Y-%m-%dT%H:%M:%SZ}")]
    if hung:
        return [Fact(CONDITION, True, "TaskHung", "; ".join(hung))]
    if before and any(one.type == CONDITION for one in before.conditions):
        return [Fact(CONDITION, False, "Moving")]
    return []


def decide_news(
    status: WorkerStatus, before: WorkerStatus | None, events: Sequence[WorkerEvent]
) -> list[tuple[str, str]]:
    """(reason, message) of each Event that is due: for what hangs now and did not before."""
    known = {(task.task, task.attempt) for task in before.running if task.hung} if before else set()
    news = [("TaskHung", _say(task)) for task in status.running if task.hung and (task.task, task.attempt) not in known]
    if status.starved and not (before and before.starved):
        told = [event.message for event in events if event.reason == "Starved"]
        news.append(("Starved", told[-1] if told else STARVED))
    return news


def _say(task: RunningTask) -> str:
    since = f" since {task.hung:%Y-%m-%dT%H:%M:%SZ}" if task.hung else ""
    where = f" at {task.where}" if task.where else ""
    which = f"task {task.task} ({task.handler}, attempt {task.attempt})"
    return f"{which} hangs{where}{since}: no progress past its soft timeout"
