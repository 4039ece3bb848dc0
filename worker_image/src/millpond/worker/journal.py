"""Writes what was decided: events into the task's log, consequences, acks. The I/O of protocol.md steps 2, 4, 5, 6.

It decides nothing itself and never gives up on its own: as long as the caller waits, an unanswered publish is read
back and tried again, so a restart of NATS costs time and no task. Only `Fenced` ends a commit, as "drop everything".
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import orjson
from millpond_api import subjects
from millpond_api.envelope import Envelope
from millpond_api.events import Parcel, TaskError, TaskEvent
from millpond_api.lifecycle import TaskState, TaskView, fold_all, read_events
from millpond_api.wire import Wire

from millpond.letters import make_letter
from millpond.objects import new_object_name, store_object
from millpond.outcomes import Again, Lost, Stands, decide_commit, is_snooze_of
from millpond.packing import Packed
from millpond.settings import ResultSettings
from millpond.transport import Fenced, Publish, QueueFull, Refused, StreamMissing, Transport, Unconfirmed
from millpond.worker.delivery import ACK, Delivery, own_headers

T = TypeVar("T")
PASSING = (Unconfirmed, StreamMissing, QueueFull)
"""What may be different in a moment: no answer, a stream that is being made, one that is full."""

ANSWER_TRIES, ANSWER_TIMEOUT = 5, 2.0


class Pause:
    """Growing pauses between tries. The first is short: most outages are a reconnect of a few milliseconds."""

    def __init__(self, first: float = 0.05, most: float = 2.0) -> None:
        self._next, self._most = first, most

    async def wait(self) -> None:
        await asyncio.sleep(self._next)
        self._next = min(self._next * 2, self._most)


@dataclass
class Journal:
    """The logs and side streams of one pool."""

    transport: Transport
    namespace: str
    pool: str
    log: Any
    letter_ttl: float = 0.0
    """Seconds that dead letters are kept; 0: as long as their stream keeps any."""

    async def read(self, task_id: str) -> TaskView:
        """The task's log. See `read_events` for what cannot be read."""
        found = await self.transport.read_log(subjects.STREAM_EVENTS, self._subject(task_id))
        return fold_all(read_events((stored.sequence, stored.body) for stored in found))

    def append(self, task_id: str, event: TaskEvent, expected: int, result: bytes = b"") -> Coroutine[Any, Any, int]:
        """Store `event` as the log's next one; its sequence. Fenced, Unconfirmed: see `transport`."""
        return self.transport.publish_stored(
            self._subject(task_id), encode_event(event, result), options=Publish(expected=expected)
        )

    async def commit(self, task_id: str, event: TaskEvent, claim: int, result: bytes = b"") -> bool:
        """Store the outcome on top of our claim. False: fenced. Goes on until one of both is certain."""
        sure, pause = True, Pause()
        while True:
            try:
                if not sure:
                    match decide_commit(await self.read(task_id), event, claim):
                        case Stands():
                            return True
                        case Lost():
                            return False
                        case Again():
                            pass
                await self.append(task_id, event, claim, result)
                return True
            except Fenced:
                if sure:
                    return False
                # An earlier try of ours may be what fenced this one: the next round reads the log.
            except PASSING as error:
                sure = False
                self.log.warning(
                    "commit not confirmed; reading the log", task=task_id, state=event.state, why=str(error)
                )
                await pause.wait()

    async def keep_result(
        self, task_id: str, event: TaskEvent, result: Packed | None, wanted: ResultSettings
    ) -> tuple[TaskEvent, bytes]:
        """The event with its result: as JSON to be put into it, as a parcel in it, or stored as an object by now."""
        if result is None or result.body == b"null":
            return event, b""
        if result.codec == "json" and not result.zip and len(result.body) <= wanted.inline_max:
            return event, result.body
        parcel = await self.make_parcel(task_id, result, wanted, event.at)
        return event.model_copy(update={"parcel": parcel}), b""

    async def make_parcel(self, task_id: str, result: Packed, wanted: ResultSettings, now: datetime) -> Parcel:
        """The result as a parcel: in it, or stored as an object by now. Refused: the server does not take it."""
        parcel = Parcel(codec=result.codec, zip=result.zip, size=result.size)
        if len(result.body) <= wanted.inline_max:
            return parcel.model_copy(update={"data": b64encode(result.body).decode()})
        name = await self.until_done("result", lambda: self._store(task_id, result.body, wanted.ttl), refused=True)
        expires = now + timedelta(seconds=wanted.ttl)
        return parcel.model_copy(update={"object": name, "stored": len(result.body), "expires": expires})

    async def _store(self, task_id: str, body: bytes, ttl: float) -> str:
        """Under a new name each time: what a lost answer has left may be whole or not there, and nobody names it."""
        name = new_object_name(task_id)
        await store_object(self.transport, (self.namespace, self.pool), name, body, ttl)
        return name

    async def complete(self, envelope: Envelope, event: TaskEvent, delivery: Delivery) -> None:
        """The consequences of an event that stands: idempotent, so that whoever comes next may do them again."""
        due = event.next_at or event.at
        if event.state == TaskState.BACKOFF and event.rank == envelope.rank:
            following, name = envelope.next_attempt(), f"{envelope.id}.{envelope.attempt + 1}"
            await self.schedule(following, due, delivery, name)
        elif is_snooze_of(event, envelope):
            following, name = envelope.next_snooze(), f"{envelope.id}.{envelope.attempt}.snooze-{event.snoozes}"
            await self.schedule(following, due, delivery, name)
        elif event.state == TaskState.FAILED:
            error = event.error or TaskError(type="Failed", message=event.message, retryable=False)
            await self.bury(envelope.id, event.attempt, error, delivery)

    async def bury(self, name: str, attempt: int, error: TaskError, delivery: Delivery) -> None:
        """Put the message with its error among the dead letters."""
        message = delivery.message
        headers, body = make_letter(own_headers(message), message.body, error, self.transport.max_payload)
        subject = subjects.dead(self.namespace, self.pool, name)
        msg_id = subjects.message_id(self.namespace, self.pool, f"{name}.{attempt}")
        options = Publish(msg_id=msg_id, ttl=self.letter_ttl)
        await self.until_done(
            "dead letter",
            lambda: self.transport.publish_stored(subject, body, headers=headers, options=options),
        )

    async def acknowledge(self, reply: str) -> None:
        """Ack a message whose outcome is in the log, without waiting for the server's word (a fifth of a task's cost).

        An ack that is lost with the connection brings the message once more after its lease; whoever gets it finds
        the outcome in the log, completes its consequences again and acks: nothing runs.
        """
        await self.transport.send(reply, ACK)

    async def answer(self, reply: str, word: bytes = ACK) -> bool:
        """Ack (or another word), confirmed by the server. False: it did not confirm, the message may come again."""
        return await self.answer_latest(lambda: reply, word)

    async def answer_latest(self, reply: Callable[[], str], word: bytes = ACK) -> bool:
        """The same for a message that may be delivered again meanwhile.

        `reply` is asked before each try. It gives up after some: a server that
        was killed hard may have forgotten that it delivered this message, and then it answers to no ack of it. Nothing
        is lost by that, because the log already says what the ack would have said.
        """
        pause = Pause()
        for _ in range(ANSWER_TRIES):
            try:
                await self.transport.request(reply(), word, timeout=ANSWER_TIMEOUT)
                return True
            except StreamMissing:
                self.log.warning("the queue was deleted meanwhile: nothing to ack")
                return True
            except Unconfirmed as error:
                self.log.warning("ack not confirmed; trying again", why=str(error))
            await pause.wait()
        return False

    async def schedule(self, envelope: Envelope, at: datetime, delivery: Delivery, msg_id: str) -> None:
        """Let the message come back at its time, with this envelope."""
        headers = {**own_headers(delivery.message), subjects.HEADER_ENVELOPE: envelope.encode().decode()}
        target = subjects.due(self.namespace, self.pool, envelope.task_class, envelope.lane)
        later = subjects.later(self.namespace, self.pool, envelope.id)
        body, scoped = delivery.message.body, subjects.message_id(self.namespace, self.pool, msg_id)
        await self.until_done(
            "schedule",
            lambda: self.transport.schedule(later, target, body, headers=headers, at=at, msg_id=scoped),
        )

    async def until_done(self, what: str, act: Callable[[], Awaitable[T]], *, refused: bool = False) -> T:
        """`act` again and again until the server has confirmed it. `refused`: raise Refused instead of waiting."""
        pause = Pause()
        while True:
            try:
                return await act()
            except PASSING as error:
                self.log.warning(f"{what} not confirmed; trying again", why=str(error))
            except Refused as error:
                if refused:
                    raise
                # The outcome is in the log, so waiting loses nothing, and only a person can change a refusal.
                self.log.error(f"{what} refused by NATS; trying again", why=str(error))
            await pause.wait()

    def _subject(self, task_id: str) -> str:
        return subjects.task_events(self.namespace, self.pool, task_id)


def encode_event(event: TaskEvent, result: bytes = b"") -> bytes:
    """The event's JSON with the result, which is JSON already and is not decoded only to be encoded again.

    The event as `event.encode()` writes it, in half the time.
    """
    flat = {name: value for name, value in event.__dict__.items() if value is not None}
    encoded = orjson.dumps(flat, default=_plain, option=orjson.OPT_UTC_Z)
    return encoded[:-1] + b',"result":' + result + b"}" if result and result != b"null" else encoded


def _plain(part: Wire) -> Any:
    """A model within an event."""
    return part.model_dump(mode="json", exclude_none=True, by_alias=True)
