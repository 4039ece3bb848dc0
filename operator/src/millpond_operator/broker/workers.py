"""What workers say (heartbeats, transitions) and what they are asked (drain).

Owns the subscriptions and the RPC; what a silence or an answer means is decided elsewhere. A message that cannot be
read is dropped with a log line: a worker of another version must not stop the operator.
"""

from collections.abc import Callable

import pydantic
import structlog
from millpond import transport as wire
from millpond.transport import Message, Subscription, Transport
from millpond_api import subjects
from millpond_api.events import Beat, DrainAsk, RpcAnswer, TaskEvent, WorkerEvent

from millpond_operator.cluster_key import PoolKey

log = structlog.get_logger(__name__)

DRAIN_TIMEOUT = 3.0


async def subscribe_beats(transport: Transport, hear: Callable[[PoolKey, str, Beat], None]) -> Subscription:
    """`hear(pool, worker, beat)` for every heartbeat."""

    async def on_message(message: Message) -> None:
        try:
            address = subjects.parse_beat(message.subject)
            beat = Beat.model_validate_json(message.body)
        except (ValueError, pydantic.ValidationError) as error:
            log.warning("a heartbeat could not be read", subject=message.subject, error=str(error))
            return
        hear(PoolKey(address.namespace, address.pool), address.name, beat)

    return await transport.subscribe("mp.beat.>", on_message)


async def subscribe_worker_events(
    transport: Transport, hear: Callable[[PoolKey, str, WorkerEvent], None]
) -> Subscription:
    """`hear(pool, worker, event)` for every stored transition of a worker."""

    async def on_message(message: Message) -> None:
        try:
            _, address = subjects.parse_event(message.subject)
            event = WorkerEvent.model_validate_json(message.body)
        except (ValueError, pydantic.ValidationError) as error:
            log.warning("a worker event could not be read", subject=message.subject, error=str(error))
            return
        hear(PoolKey(address.namespace, address.pool), address.name, event)

    return await transport.subscribe("mp.feed.worker.>", on_message)


async def subscribe_task_events(transport: Transport, hear: Callable[[PoolKey, str, TaskEvent], None]) -> Subscription:
    """`hear(pool, task id, event)` for every stored transition of a task. A hint: the log is the truth."""

    async def on_message(message: Message) -> None:
        try:
            _, address = subjects.parse_event(message.subject)
            event = TaskEvent.model_validate_json(message.body)
        except (ValueError, pydantic.ValidationError) as error:
            log.warning("a task event could not be read", subject=message.subject, error=str(error))
            return
        hear(PoolKey(address.namespace, address.pool), address.name, event)

    return await transport.subscribe("mp.feed.task.>", on_message)


async def subscribe_wake(transport: Transport, key: PoolKey, hear: Callable[[Message], None]) -> Subscription:
    """`hear(message)` for every task stored in the pool's queue (headers only)."""

    async def on_message(message: Message) -> None:
        hear(message)

    return await transport.subscribe(subjects.wake_all(*key), on_message)


async def drain(transport: Transport, key: PoolKey, worker: str, *, if_idle: bool) -> RpcAnswer | None:
    """Ask a worker to take nothing new; None when it does not answer (it may have done it)."""
    try:
        answer = await transport.request(
            subjects.rpc(*key, worker, "drain"), DrainAsk(if_idle=if_idle).encode(), timeout=DRAIN_TIMEOUT
        )
        return RpcAnswer.model_validate_json(answer.body)
    except (wire.TransportError, pydantic.ValidationError) as error:
        log.warning("a worker did not answer drain", pool=str(key), worker=worker, error=str(error))
        return None
