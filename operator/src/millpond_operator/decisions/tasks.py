"""What to do for a Task object now: pure. `decide_task(seen, now)` reads the object and its pool and names one step.

A Task is its own intention: until its status says Queued or Scheduled it may be submitted, again and again, because a
submission is idempotent by task id (the object's uid). After that its log in MILLPOND_EVENTS is the truth, and only
`cancel`, the time to live and the rescue are left to decide here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import orjson
from millpond_api.durations import parse_duration
from millpond_api.events import MAX_PAYLOAD_BYTES
from millpond_api.lifecycle import TERMINAL
from millpond_api.v1alpha1 import TaskSpec, TaskStatus


class Do(StrEnum):
    """The step to take."""

    NOTHING = "nothing"
    SUBMIT = "submit"
    SCHEDULE = "schedule"
    WAIT = "wait"  # stays Pending, with the reason
    END = "end"  # commit an outcome without a worker
    DELETE = "delete"  # the time to live is over
    LATER = "later"  # nothing now, look again after `after` seconds


@dataclass(frozen=True)
class PoolView:
    """What a task needs to know of its pool; None where it does not exist."""

    classes: tuple[str, ...]
    queue_ready: bool


@dataclass(frozen=True)
class Step:
    """One step, with the phase, reason and sentence that the status then shows."""

    do: Do
    phase: str = ""
    reason: str = ""
    message: str = ""
    after: float = 0.0


NEVER_SENT = frozenset({"ArgumentsRefused", "ArgumentsTooLarge", "Yielded"})
"""Reasons of tasks that ended without having been in a queue."""
_SUBMITTED = frozenset({"Queued", "Scheduled", "Running", "Backoff"})


def decide_task(spec: TaskSpec, status: TaskStatus, pool: PoolView | None, now: datetime) -> Step:
    """The step for a Task that exists."""
    if status.phase in TERMINAL:
        return _after_the_end(spec, status, now)
    if spec.cancel:
        return Step(Do.END, "Cancelled", "Cancelled", "spec.cancel was set")
    if status.phase in _SUBMITTED:
        return Step(Do.NOTHING)
    size = payload_size(spec)
    if size > MAX_PAYLOAD_BYTES:
        text = (
            f"spec.args and spec.kwargs are {size} bytes; at most {MAX_PAYLOAD_BYTES} fit into a task: "
            "put the data into a store and pass its key"
        )
        return Step(Do.END, "Failed", "ArgumentsTooLarge", text)
    if spec.deadline is not None and spec.deadline <= now:
        return Step(Do.END, "Expired", "DeadlinePassed", "spec.deadline passed before it could start")
    if spec.suspend:
        return Step(Do.WAIT, "Pending", "Suspended", "spec.suspend is true: set it to false to submit the task")
    return _submission(spec, pool, now)


def _submission(spec: TaskSpec, pool: PoolView | None, now: datetime) -> Step:
    if pool is None:
        text = f"there is no WorkerPool {spec.pool!r} in this namespace: the task is submitted when it is created"
        return Step(Do.WAIT, "Pending", "PoolNotFound", text)
    if spec.task_class not in pool.classes:
        text = f"pool {spec.pool!r} has no class {spec.task_class!r} (it has {', '.join(pool.classes)})"
        return Step(Do.WAIT, "Pending", "ClassNotFound", text)
    if not pool.queue_ready:
        return Step(Do.WAIT, "Pending", "QueueMissing", f"the queue of pool {spec.pool!r} is being made")
    if spec.not_before is not None and spec.not_before > now:
        return Step(Do.SCHEDULE, "Scheduled", "NotBefore", f"it starts at {spec.not_before.isoformat()}")
    return Step(Do.SUBMIT, "Queued", "Submitted", "it waits for a free slot")


@dataclass(frozen=True)
class Asked:
    """What a pool's spec asks for: the version that it makes, and its generation here and at the API server."""

    version: str
    generation: int
    stored: int | None


def may_refuse(asked: Asked, versions: Iterable[str]) -> bool:
    """Whether the pool's catalogue may fail a Task: it speaks of the one version that there is and is asked for.

    A Task that was applied together with a new image must not fail by the handlers of the old one, and its pool's
    change may reach this process after it: then the API server has another generation of the pool (or none).
    """
    return asked.generation == asked.stored and list(versions) == [asked.version]


def say_yielded(key: str, other: str, state: str | None) -> str:
    """The sentence on a task that yields to another one of its unique key; `state` None: that one is just sent."""
    return f"task {other} ({state or 'Queued'}) has the unique key {key!r}: this one yielded to it and does not run"


def _after_the_end(spec: TaskSpec, status: TaskStatus, now: datetime) -> Step:
    if spec.ttl_after_finished is None or status.finished_at is None:
        return Step(Do.NOTHING)
    due = status.finished_at + timedelta(seconds=parse_duration(spec.ttl_after_finished))
    left = (due - now).total_seconds()
    return Step(Do.DELETE) if left <= 0 else Step(Do.LATER, after=left)


def payload_size(spec: TaskSpec) -> int:
    """Bytes of the arguments as they travel."""
    return len(orjson.dumps({"args": spec.args, "kwargs": spec.kwargs}))
