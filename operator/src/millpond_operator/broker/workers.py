"""What workers say (heartbeats, transitions) and what they are asked (drain).

Owns the subscriptions and the RPC; what a silence or an answer means is decided elsewhere. A message that cannot be
read is dropped with a log line: a worker of another version must not stop the operator.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pydantic
import structlog
from millpond import transport as wire
from millpond.transport import Message, Subscription, Transport
from millpond_api import subjects
from millpond_api.events import Beat, DrainAsk, RpcAnswer, TaskEvent, WorkerEvent

from millpond_operator.cluster_key import PoolKey

log = structlog.get_logger(__name__)

DRAIN_TIMEOUT = 3.0

Said = TypeVar("Said", TaskEvent, WorkerEvent)


@dataclass(slots=True)
class _Heard:
    """A worker's last heartbeat: when, the hash of its bytes, whose it is and what it said."""

    at: float
    text: int
    pool: PoolKey
    worker: str
    beat: Beat


FORGET_EVERY = 60.0


@dataclass
class BeatReader:
    """Reads heartbeats; one that says what the last one said is handed on as the same object, unparsed.

    A worker in which nothing changes sends the same bytes again: most of 20,000 heartbeats cost a comparison.
    """

    hear: Callable[[PoolKey, str, Beat], None]
    _heard: dict[str, _Heard] = field(default_factory=dict)
    _swept: float = 0.0

    def read(self, subject: str, body: bytes, now: float) -> None:
        """Hand on what the message says; ValueError when it cannot be read."""
        text, known = hash(body), self._heard.get(subject)
        if known is None or known.text != text:
            address = subjects.parse_beat(subject)
            pool = PoolKey(sys.intern(address.namespace), sys.intern(address.pool))
            known = _Heard(now, text, pool, sys.intern(address.name), Beat.decode(body))
            self._heard[subject] = known
        known.at = now
        self.hear(known.pool, known.worker, known.beat)
        if now - self._swept > FORGET_EVERY:
            self._swept = now
            self._heard = {subject: one for subject, one in self._heard.items() if now - one.at < FORGET_EVERY}


async def subscribe_beats(transport: Transport, hear: Callable[[PoolKey, str, Beat], None]) -> Subscription:
    """`hear(pool, worker, beat)` for every heartbeat."""
    reader = BeatReader(hear)

    async def on_message(message: Message) -> None:
        try:
            reader.read(message.subject, message.body, time.monotonic())
        except ValueError as error:  # pydantic's ValidationError is one
            log.warning("a heartbeat could not be read", subject=message.subject, error=str(error))

    return await transport.subscribe("mp.beat.>", on_message)


async def subscribe_worker_events(
    transport: Transport, hear: Callable[[PoolKey, str, WorkerEvent], None]
) -> Subscription:
    """`hear(pool, worker, event)` for every stored transition of a worker."""
    return await _subscribe(transport, "mp.feed.worker.>", _Reader(_event_address, WorkerEvent), hear)


async def subscribe_task_events(transport: Transport, hear: Callable[[PoolKey, str, TaskEvent], None]) -> Subscription:
    """`hear(pool, task id, event)` for every stored transition of a task. A hint: the log is the truth."""
    return await _subscribe(transport, "mp.feed.task.>", _Reader(_event_address, TaskEvent), hear)


@dataclass(frozen=True)
class _Reader(Generic[Said]):
    """How a message's subject and body are read."""

    address: Callable[[str], subjects.Address]
    model: type[Said]


def _event_address(subject: str) -> subjects.Address:
    return subjects.parse_event(subject)[1]


async def _subscribe(
    transport: Transport, subject: str, reader: _Reader[Said], hear: Callable[[PoolKey, str, Said], None]
) -> Subscription:
    async def on_message(message: Message) -> None:
        try:
            address = reader.address(message.subject)
            said = reader.model.decode(message.body)
        except (ValueError, pydantic.ValidationError) as error:
            log.warning("what a worker said could not be read", subject=message.subject, error=str(error))
            return
        hear(PoolKey(address.namespace, address.pool), address.name, said)

    return await transport.subscribe(subject, on_message)


async def subscribe_wake(transport: Transport, key: PoolKey, hear: Callable[[Message], None]) -> Subscription:
    """`hear(message)` for the next task that is stored in the pool's queue (headers only), and for no other."""

    async def on_message(message: Message) -> None:
        hear(message)

    return await transport.subscribe(subjects.wake_all(*key), on_message, limit=1)


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
