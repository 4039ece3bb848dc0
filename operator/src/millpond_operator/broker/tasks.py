"""Tasks on the broker: submitted, scheduled, ended by the operator, and their logs read.

Owns the operator's part of protocol.md: step 1 (a publish whose id is the task's is the commit, so it may be repeated)
and the outcomes that nobody needs to run for (Cancelled, Expired, Failed before a start), each by compare-and-set on
the log. It never decides what a task should become: `decisions.tasks` does.
"""

import contextlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from millpond import transport as wire
from millpond.transport import Publish, Transport
from millpond_api import subjects
from millpond_api.envelope import Envelope
from millpond_api.events import CancelAsk, TaskError, TaskEvent
from millpond_api.fairness import LaneChoices, read_counts
from millpond_api.lifecycle import TaskState, TaskView, fold_all, read_events

from millpond_operator.cluster_key import PoolKey

RPC_TIMEOUT = 2.0


@dataclass(frozen=True)
class Order:
    """A task ready for its pool's queue."""

    pool: PoolKey
    envelope: Envelope
    payload: dict[str, Any]
    not_before: datetime | None = None

    @property
    def body(self) -> bytes:
        return orjson.dumps(self.payload)


@dataclass(frozen=True)
class Ending:
    """An outcome that needs no worker."""

    state: TaskState
    at: datetime
    reason: str
    message: str
    object: str
    handler: str
    unstarted: bool = False
    """Only of a task that has no log yet."""


async def into_lane(transport: Transport, order: Order, choices: LaneChoices, lanes: int, now: float) -> Order:
    """The same in a lane of its class by its fairness key, for a pool with so many lanes. `now`: a steady clock."""
    envelope = order.envelope
    if not envelope.fair or not lanes:
        return order
    if choices.needs_look(order.pool, now):
        counts: dict[tuple[str, str], int] = {}
        # A choice without a look is less good; what stands in the way, the submission itself will say.
        with contextlib.suppress(wire.TransportError):
            ask = {"subjects_filter": subjects.tasks_all(*order.pool)}
            counts = read_counts(await transport.api(f"STREAM.INFO.{subjects.pool_stream(*order.pool)}", ask))
        choices.saw(order.pool, counts, now)
    lane = choices.choose(order.pool, envelope.task_class, envelope.fair, lanes)
    return replace(order, envelope=envelope.model_copy(update={"lane": lane}))


async def submit(transport: Transport, order: Order, msg_id: str = "") -> None:
    """Put the task into its pool's queue; a repetition within two minutes is dropped by the server.

    Raises `QueueFull` when the queue is at its bound and `StreamMissing` when it does not exist.
    """
    subject = subjects.tasks(*order.pool, order.envelope.task_class, order.envelope.lane)
    await transport.publish_stored(
        subject, order.body, headers=_headers(order), options=Publish(msg_id=msg_id or order.envelope.id)
    )


async def schedule(transport: Transport, order: Order, message: str) -> None:
    """Let the server put the task into the queue at its time (that is the commit), then say so in its log."""
    assert order.not_before is not None
    target = subjects.due(*order.pool, order.envelope.task_class, order.envelope.lane)
    envelope = order.envelope
    await transport.schedule(
        subjects.later(*order.pool, envelope.id),
        target,
        order.body,
        headers=_headers(order),
        at=order.not_before,
        msg_id=subjects.message_id(*order.pool, f"{envelope.id}.{envelope.attempt}"),
    )
    event = TaskEvent(
        state=TaskState.SCHEDULED,
        at=envelope.enqueued,
        handler=envelope.handler,
        object=envelope.object,
        reason="NotBefore",
        message=message,
        next_at=order.not_before,
    )
    # Fenced: it has a log already, which is right.
    with contextlib.suppress(wire.Fenced):
        log = subjects.task_events(*order.pool, envelope.id)
        await transport.publish_stored(log, event.encode(), options=Publish(expected=0))


async def read_view(transport: Transport, pool: PoolKey, task_id: str) -> TaskView:
    """The task as its log tells it."""
    log = await transport.read_log(subjects.STREAM_EVENTS, subjects.task_events(*pool, task_id))
    return fold_all(read_events((stored.sequence, stored.body) for stored in log))


async def end(transport: Transport, pool: PoolKey, task_id: str, ending: Ending) -> TaskView:
    """Commit the outcome unless one stands already; the log afterwards. A running worker is told and is fenced."""
    subject = subjects.task_events(*pool, task_id)
    while True:
        view = await read_view(transport, pool, task_id)
        if view.terminal or (ending.unstarted and view.last):
            return view
        last = view.last
        event = TaskEvent(
            state=ending.state,
            attempt=last.attempt if last else 1,
            at=ending.at,
            handler=ending.handler,
            worker=last.worker if last else "",
            object=ending.object,
            reason=ending.reason,
            message=ending.message,
            error=_error(ending),
        )
        # Fenced: the log moved in between. Read again and decide again.
        with contextlib.suppress(wire.Fenced):
            options = Publish(expected=last.sequence if last else 0)
            await transport.publish_stored(subject, event.encode(), options=options)
            break
    if last is not None and last.state == TaskState.RUNNING and last.worker:
        await _tell_worker(transport, subjects.rpc(*pool, last.worker, "cancel"), task_id)
    await transport.purge_later(subjects.later(*pool, task_id))
    return await read_view(transport, pool, task_id)


def _error(ending: Ending) -> TaskError | None:
    if ending.state != TaskState.FAILED:
        return None
    return TaskError(type=ending.reason, message=ending.message, retryable=False)


async def _tell_worker(transport: Transport, subject: str, task_id: str) -> None:
    # A courtesy: the worker is fenced by the event anyway, so a worker that is gone or silent changes nothing.
    with contextlib.suppress(wire.TransportError):
        await transport.request(subject, CancelAsk(task=task_id).encode(), timeout=RPC_TIMEOUT)


def _headers(order: Order) -> dict[str, str]:
    return {subjects.HEADER_ENVELOPE: order.envelope.encode().decode()}
