"""How the workers ended that a quarantined task took with it: from their pods and Worker objects, pure.

Owns the answer to "what does this task do to its workers": OOMKilled, an exit code, an eviction. A worker of which
nothing is known is named too, because its name leads to its log.
"""

from collections.abc import Iterable
from datetime import datetime

from millpond_api.events import LossNote, LostWorker
from millpond_api.lifecycle import WORKER_ENDED, TaskState, TaskView
from millpond_api.v1alpha1 import WorkerStatus

from millpond_operator.decisions.pods import Ended

POISON = "Poison"


def find_lost(view: TaskView) -> tuple[str, ...]:
    """The workers that were lost in the attempt that ended as poison, each once, in order; empty for any other end."""
    last = view.last
    if last is None or last.state != TaskState.FAILED or last.reason != POISON:
        return ()
    runs = (event for event in view.events if event.state == TaskState.RUNNING and event.attempt == last.attempt)
    return tuple(dict.fromkeys(event.worker for event in runs))


def make_loss(worker: str, ended: Ended | None, status: WorkerStatus | None) -> LostWorker:
    """What the kubelet says of the pod's last container, else what the Worker object keeps of a pod that is gone."""
    if ended is not None and not ended.clean:
        return LostWorker(worker=worker, reason=ended.reason, message=ended.message, exit_code=ended.exit_code)
    if status is not None and status.state in (*WORKER_ENDED, "Lost"):
        return LostWorker(
            worker=worker, reason=status.reason or status.state, message=status.message, exit_code=status.exit_code
        )
    return LostWorker(worker=worker)


def make_note(attempt: int, losses: Iterable[LostWorker], at: datetime) -> LossNote:
    return LossNote(attempt=attempt, at=at, workers=tuple(losses))


def say_losses(losses: Iterable[LostWorker]) -> str:
    """One sentence for the Task's status; empty when nothing is known of any."""
    known = [one for one in losses if one.reason]
    return "; ".join(
        f"{one.worker} ended as {one.reason}" + (f" (exit code {one.exit_code})" if one.exit_code is not None else "")
        for one in known
    )
