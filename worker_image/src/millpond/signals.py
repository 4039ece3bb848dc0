"""Speak to a task from outside: send it a signal, ask the handler that runs it a query.

Owns the sender's side. A signal is stored when `send_signal` returns, whether or not the task runs yet, in the order in
which signals are stored; a second one under the same id is the same signal. A query is a request, nothing of it is
stored. It must not write the task's log. It survives a restart of the broker: a signal is sent again under its id.
"""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from millpond_api import subjects
from millpond_api.events import utc_now
from millpond_api.messages import QUERY_BYTES, SIGNAL_BYTES, SIGNALS_PER_TASK, QueryAnswer, QueryAsk, SignalNote

from millpond import transport as wire
from millpond.asking import Question, ask_task
from millpond.errors import BrokerRefused, NotConnected, QueryFailed, QueryTimeout, SignalsFull, TaskEnded, UnknownQuery
from millpond.parcels import Parcels
from millpond.transport import Publish

if TYPE_CHECKING:
    from millpond.handle import TaskHandle

SIGNAL_TIMEOUT = 30.0
"""Seconds that a signal is sent again while the broker does not answer: a restart of it; copies are dropped."""
MARGIN = 2.0
"""Seconds for a query's way, beside those that the handler has."""
CODES = ("UnknownQuery", "QueryFailed", "QueryTimeout")


@dataclass(frozen=True)
class Outbound:
    """A signal to send. `id` makes it one, however often it is sent."""

    name: str
    payload: Any = None
    id: str = field(default_factory=lambda: uuid4().hex)


async def send_signal(handle: "TaskHandle", signal: Outbound, parcels: Parcels) -> None:
    """Store it; TaskEnded, SignalsFull, MessageTooLarge and the like say why it was not."""
    parcel = parcels.pack(f"the payload of signal {signal.name!r}", signal.payload, SIGNAL_BYTES)
    note = SignalNote(name=signal.name, at=utc_now(), id=signal.id, parcel=parcel)
    await _refuse_ended(handle, signal)
    where = (handle.client.namespace, handle.pool)
    msg_id = subjects.message_id(*where, f"{handle.id}.{signal.id}")
    try:
        await _store(handle, subjects.signals(*where, handle.id), note.encode(), msg_id)
    except wire.QueueFull as error:
        raise SignalsFull(
            f"task {handle.id} holds {SIGNALS_PER_TASK:,} signals, as many as it may: signal {signal.name!r} was not "
            "stored; the handler makes room when it takes signals and then calls ctx.checkpoint"
        ) from error
    except wire.StreamMissing as error:
        raise BrokerRefused(
            f"there is no stream {subjects.STREAM_SIGNALS}: is the Millpond operator installed beside this NATS "
            "server, and as new as this SDK?"
        ) from error
    except wire.TransportError as error:
        raise BrokerRefused(f"NATS refused signal {signal.name!r}: {error}") from error


async def _refuse_ended(handle: "TaskHandle", signal: Outbound) -> None:
    status = await handle.status()
    if status.finished:
        advice = "redrive it, then send it again" if status.state == "Failed" else "nobody will take it"
        raise TaskEnded(
            f"task {handle.id} has ended ({status.state}), so signal {signal.name!r} was not sent: {advice}"
        )


async def _store(handle: "TaskHandle", subject: str, body: bytes, msg_id: str) -> None:
    clock = asyncio.get_running_loop().time
    give_up = clock() + SIGNAL_TIMEOUT
    while True:
        try:
            await handle.client.transport.publish_stored(subject, body, options=Publish(msg_id=msg_id))
            return
        except wire.Unconfirmed as error:
            if clock() > give_up:
                raise NotConnected(
                    f"NATS has not confirmed the signal within {SIGNAL_TIMEOUT:g} s ({error}): it may or may not be "
                    "stored; check the server, then send it again under the same id"
                ) from error
        # A server that is just starting answers at once with an error: do not spin on it.
        await asyncio.sleep(0.25)


async def send_query(handle: "TaskHandle", name: str, args: tuple[Any, ...], parcels: Parcels, timeout: float) -> Any:
    """What the running handler answers; UnknownQuery, QueryFailed, QueryTimeout, NotRunning and the like otherwise."""
    parcel = parcels.pack(f"the arguments of query {name!r}", list(args), QUERY_BYTES)
    ask = QueryAsk(task=handle.id, name=name, args=parcel, timeout=timeout)
    answer = await ask_task(handle, Question("query", ask, QueryAnswer, timeout + MARGIN, CODES))
    match answer.code:
        case "UnknownQuery":
            raise UnknownQuery(answer.message)
        case "QueryTimeout":
            raise QueryTimeout(f"task {handle.id}: {answer.message}")
        case "QueryFailed" if answer.error is not None:
            raise QueryFailed(name, answer.error.type, answer.error.message, answer.error.traceback)
    return parcels.open(answer.parcel)
