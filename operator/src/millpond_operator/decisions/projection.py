"""From a task's log to the status of its object: pure, and the same for the first event and for a replay.

The whole status is made anew from the log each time, so events may be missed, repeated or late: the newest sequence
wins (`observedSequence`). What the log does not hold (when the object was submitted) comes from the status before.
"""

from datetime import datetime

import orjson
from millpond_api.durations import format_duration
from millpond_api.events import INLINE_RESULT, TaskEvent
from millpond_api.lifecycle import TERMINAL, TaskState, TaskView
from millpond_api.v1alpha1 import TaskStatus
from millpond_api.v1alpha1.common import Condition
from millpond_api.v1alpha1.task import TaskError, TaskStoredResult, TaskTransition

from millpond_operator.decisions.conditions import Fact, make_conditions
from millpond_operator.decisions.tasks import NEVER_SENT

TRACEBACK = 4 * 1024


def is_news(before: TaskStatus, last: TaskEvent) -> bool:
    """Whether the log's last event is not older than the status.

    Its sequence tells, unless NATS lost its data and counts from one again: then the event is later than every step
    that the status knows of.
    """
    known = max((step.at for step in before.transitions), default=None)
    return last.sequence >= before.observed_sequence or known is None or last.at > known


def project(before: TaskStatus, view: TaskView, now: datetime, generation: int) -> TaskStatus:
    """The status that the log stands for; `before` itself when the log is empty."""
    last = view.last
    if last is None:
        return before
    result, stored = _result(last)
    running = next((e for e in reversed(view.events) if e.state == TaskState.RUNNING), None)
    finished = last.at if last.state in TERMINAL else None
    return TaskStatus(
        phase=last.state,
        task_id=before.task_id,
        attempts=view.attempts,
        worker=running.worker if running else "",
        queued_at=before.queued_at,
        started_at=running.at if running else None,
        finished_at=finished,
        next_attempt_at=last.next_at if last.state in (TaskState.BACKOFF, TaskState.SCHEDULED) else None,
        duration=_duration(running, view, finished),
        reason=last.reason or (last.error.type if last.error else ""),
        message=_say_where(stored) or last.message or (last.error.message if last.error else ""),
        result=result,
        stored_result=stored,
        error=_error(view),
        transitions=_submitted(before.queued_at, view) + [_transition(event) for event in view.events],
        observed_sequence=last.sequence,
        conditions=task_conditions(before.conditions, last, now, generation),
    )


def task_conditions(old: list[Condition], last: TaskEvent, now: datetime, generation: int) -> list[Condition]:
    """Complete and Failed, so that `kubectl wait --for=condition=Complete` works; Accepted says it was taken.

    Waiting says which limit has put it aside.
    """
    ended = last.state in TERMINAL
    failed = ended and last.state != TaskState.SUCCEEDED
    why = last.message or (f"{last.error.type}: {last.error.message}" if last.error else "")
    sent = not ended or last.reason not in NEVER_SENT
    facts = [
        Fact("Accepted", True, "Submitted", "the queue has it") if sent else Fact("Accepted", False, last.reason, why),
        Fact("Complete", last.state == TaskState.SUCCEEDED, str(last.state), "" if failed else why),
        Fact("Failed", failed, str(last.state), why if failed else ""),
    ]
    if last.aside is not None and not ended:
        # Only while it holds: a task that no limit has put aside has no such condition.
        facts.append(Fact("Waiting", True, last.reason, last.message))
    if any(condition.type == "HandlerMissing" for condition in old):
        # It waited for its handler, and a worker has it by now (or the task was ended without).
        facts.append(Fact("HandlerMissing", False, str(last.state)))
    return make_conditions(old, facts, now, generation)


def _result(last: TaskEvent) -> tuple[object, TaskStoredResult | None]:
    """The result, or where it is: etcd holds every version of an object, so a large one is not copied into it."""
    if parcel := last.parcel:
        where = "ObjectStore" if parcel.object else "Event"
        return None, TaskStoredResult(size=parcel.size, where=where, codec=parcel.codec, expires_at=parcel.expires)
    size = 0 if last.result is None else len(orjson.dumps(last.result))
    return (last.result, None) if size <= INLINE_RESULT else (None, TaskStoredResult(size=size, where="Event"))


def _say_where(stored: TaskStoredResult | None) -> str:
    if stored is None:
        return ""
    place = "the object store" if stored.where == "ObjectStore" else "its event"
    until = f" until {stored.expires_at:%Y-%m-%dT%H:%M:%SZ}" if stored.expires_at else ""
    kind = "" if stored.codec == "json" else f" of {stored.codec}"
    return f"the result ({stored.size} bytes{kind}) is in {place}{until}: read it with the SDK (handle.result())"


def _duration(running: TaskEvent | None, view: TaskView, finished: datetime | None) -> str:
    if running is None:
        return ""
    after = [event for event in view.events if event.sequence > running.sequence]
    end = after[0].at if after else finished
    return format_duration(max(0.0, (end - running.at).total_seconds())) if end else ""


def _error(view: TaskView) -> TaskError | None:
    """The last error, also while the next attempt waits or runs."""
    if view.state == TaskState.SUCCEEDED:
        return None
    error = next((event.error for event in reversed(view.events) if event.error), None)
    if error is None:
        return None
    return TaskError(type=error.type, message=error.message[:4096], traceback=error.traceback[-TRACEBACK:])


def _submitted(at: datetime | None, view: TaskView) -> list[TaskTransition]:
    """The first step, which no event tells: the submission itself is the commit (protocol, step 1).

    One for later is told: its log begins with Scheduled.
    """
    if at is None or view.events[0].state == TaskState.SCHEDULED:
        return []
    return [TaskTransition(phase="Queued", at=at, attempt=1, reason="Submitted")]


def _transition(event: TaskEvent) -> TaskTransition:
    reason = event.reason or (event.error.type if event.error else "")
    return TaskTransition(phase=event.state, at=event.at, attempt=event.attempt, worker=event.worker, reason=reason)
