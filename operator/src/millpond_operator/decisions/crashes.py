"""Which ends of a worker's container are crashes that its supervisor counts, each with a number of its own: pure.

Owns what makes the same crash, seen twice or by two leaders, one: the pod's uid and how many of its containers have
ended. What the operator or a person asked for (a drained worker, a deleted pod) is no crash. A container that ended
twice between two looks of the kubelet is one crash: nobody saw two.
"""

from dataclasses import dataclass

from millpond_api.lifecycle import WorkerState
from millpond_api.v1alpha1 import WorkerStatus

from millpond_operator.decisions.workers import WorkerMemory

NAMED_TASKS = 5


@dataclass(frozen=True)
class Crash:
    """A worker ended badly: the `number`-th end of a container in its pod. `token` is the restart it was made by."""

    worker: str
    uid: str
    number: int
    reason: str
    message: str = ""
    exit_code: int | None = None
    token: str = ""
    tasks: tuple[str, ...] = ()


def read_crash(worker: str, memory: WorkerMemory, status: WorkerStatus) -> Crash | None:
    """The last crash of the worker, also one that was told before; None when it had none."""
    pod = memory.pod
    if pod is None or memory.retired or pod.going:
        return None
    if pod.ended and not pod.ended.clean:
        number = pod.restarts + (not pod.running)
        cause: tuple[str, str, int | None] = (pod.ended.reason, pod.ended.message, pod.ended.exit_code)
    elif memory.gone and status.state == WorkerState.FAILED:
        number, cause = pod.restarts + 1, (status.reason, status.message, None)
    else:
        return None
    return Crash(worker, pod.uid, number, *cause, pod.restarted, _read_tasks(memory))


def _read_tasks(memory: WorkerMemory) -> tuple[str, ...]:
    """What the process that ended said last that it ran; a new process may have said something since."""
    beat = memory.beat
    if beat is None or not (memory.gone or beat.incarnation == memory.ended_incarnation):
        return ()
    return tuple(task.object or task.task for task in beat.in_flight[:NAMED_TASKS])
