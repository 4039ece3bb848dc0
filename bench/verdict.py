"""What a storm did to the tasks and workers, judged from the tasks' logs and from the pods that were told to go.

Pure: events and moments in, counts out. A run begins with a `Running` event and ends with the task's next one. It was
*interrupted* when that is another `Running` of the same attempt (the worker was lost) or `Queued` (given back at
shutdown). A pod was *stopped busy* when its worker ran a task at or after the moment at which it was told to go. A
task is *lost* when no log tells of an outcome and the queue does not hold it either; it has *two outcomes* when a
second one was committed without a redrive.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

from millpond_api.events import TaskEvent
from millpond_api.lifecycle import TERMINAL
from pydantic import BaseModel

EXAMPLES = 20


class Verdict(BaseModel):
    """Counts of one storm."""

    tasks: int
    """Submitted."""
    succeeded: int
    waiting: int = 0
    """Still in the queue when the time was up."""
    lost: int
    """Neither an outcome nor in the queue any more."""
    runs: int
    interrupted: int
    """Runs that were cut off before their outcome."""
    two_outcomes: int
    stopped: int
    """Worker pods that were told to go, for whatever reason."""
    stopped_busy: int
    """Of those, the ones that ran a task at that moment or later."""
    wasted_seconds: float
    """Work that interrupted runs had done and that was done again."""
    failed: dict[str, int] = {}
    """Ended in another way than Succeeded: how many by reason."""
    told: list[str] = []
    """Of the first pods that were told to go while busy: who, when, and what they ran."""
    cut: list[str] = []
    """Of the first runs that were interrupted: whose, how long, and whether the pod had been told to go."""


class Run(BaseModel):
    """One run of a task."""

    worker: str
    begun: datetime
    ended: datetime | None
    """None: nothing came after it."""
    interrupted: bool


def runs_of(log: Sequence[TaskEvent]) -> list[Run]:
    """The runs that a task's log tells of, oldest first."""
    found = []
    for event, after in pairwise([*log, None]):
        if event is None or event.state != "Running":
            continue
        ended = after.at if after else None
        found.append(Run(worker=event.worker, begun=event.at, ended=ended, interrupted=_is_cut_off(event, after)))
    return found


def _is_cut_off(event: TaskEvent, after: TaskEvent | None) -> bool:
    if after is None:
        return False
    return after.state == "Queued" or (after.state == "Running" and after.attempt == event.attempt)


def judge(
    tasks: Iterable[str], logs: Mapping[str, Sequence[TaskEvent]], stopped: Mapping[str, datetime], waiting: int = 0
) -> Verdict:
    """Judge a storm: ids of the submitted tasks, their logs in order, when each worker's pod was told to go, and how
    many tasks the queue still holds.
    """
    ids = list(tasks)
    runs = [run for task in ids for run in runs_of(logs.get(task, ()))]
    ends = {task: [event.state for event in logs.get(task, ()) if event.state in TERMINAL] for task in ids}
    cut = [run for run in runs if run.interrupted]
    busy = [run for run in runs if run.worker in stopped and is_open(run, stopped[run.worker])]
    return Verdict(
        tasks=len(ids),
        succeeded=sum(states[-1:] == ["Succeeded"] for states in ends.values()),
        waiting=waiting,
        lost=max(0, sum(not states for states in ends.values()) - waiting),
        runs=len(runs),
        interrupted=len(cut),
        two_outcomes=sum(len(states) > 1 for states in ends.values()),
        stopped=len(stopped),
        stopped_busy=len({run.worker for run in busy}),
        wasted_seconds=round(sum((run.ended - run.begun).total_seconds() for run in cut if run.ended), 1),
        failed=dict(Counter(_reason(logs[task][-1]) for task in ids if ends[task] and ends[task][-1] != "Succeeded")),
        told=[_tell(run, stopped[run.worker]) for run in busy[:EXAMPLES]],
        cut=[_tell(run, stopped.get(run.worker)) for run in cut[:EXAMPLES]],
    )


def _reason(event: TaskEvent) -> str:
    return event.reason or (event.error.type if event.error else event.state)


def _tell(run: Run, moment: datetime | None) -> str:
    until = f"{run.ended:%H:%M:%S.%f}" if run.ended else "no end"
    told = f"was told to go at {moment:%H:%M:%S.%f}" if moment else "was never told to go"
    return f"{run.worker} {told}; it ran a task from {run.begun:%H:%M:%S.%f} to {until}"


def is_open(run: Run, moment: datetime) -> bool:
    """Whether the run was under way at that moment, or began even later."""
    return run.ended is None or moment < run.ended
