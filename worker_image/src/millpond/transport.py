"""What the SDK asks of NATS: stored publishes with an answer, batches, direct reads, schedules.

Owns the requests of JetStream and the reading of their answers, on the one connection of `channel`. It decides nothing:
what an answer means for a task is said in `outcomes`. `channel` and `connection` below it are the only modules that
import nats.
"""

import math
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
from millpond_api import subjects

from millpond.answers import (
    AccessRefused,
    Duplicate,
    Fenced,
    Message,
    NoMessage,
    QueueFull,
    Refused,
    Stored,
    StreamMissing,
    TransportError,
    Unconfirmed,
    is_absent,
    make_refusal,
    read_sequence,
    read_stored,
)
from millpond.channel import TIMEOUT, Channel, Hooks, Subscription
from millpond.outgoing import Outgoing, make_batch, make_schedule, wire_headers

__all__ = [
    "AccessRefused",
    "Duplicate",
    "Fenced",
    "Hooks",
    "Message",
    "NoMessage",
    "Outgoing",
    "Publish",
    "QueueFull",
    "Refused",
    "Stored",
    "StreamMissing",
    "Subscription",
    "Transport",
    "TransportError",
    "Unconfirmed",
    "make_schedule",
]

PAGE, PAGE_TIMEOUT = 256, 30.0
"""Messages read at once of a long range (some 3 KiB each), and seconds that this may take over a forwarded port."""


class Publish(NamedTuple):
    """Conditions of a stored publish. `msg_id` dedupes within the stream's window; `expected` is the fence.

    `ttl`: the server removes the message after so many seconds (a stream with `allow_msg_ttl`; 0: it stays).
    """

    msg_id: str = ""
    expected: int | None = None
    timeout: float = TIMEOUT
    ttl: float = 0.0


@dataclass
class Transport(Channel):
    """A connected transport; make it with `connect`. Belongs to the event loop that made it."""

    async def publish_stored(
        self,
        subject: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        options: Publish | None = None,
    ) -> int:
        """Publish into a stream; returns the stored sequence (that of the first one for a duplicate `msg_id`)."""
        options = options or Publish()
        sent = wire_headers(headers or {}, options.msg_id)
        if options.expected is not None:
            sent[subjects.HEADER_EXPECTED_SEQUENCE] = str(options.expected)
        if options.ttl:
            # The server counts whole seconds, at least one: rounded up, nothing goes before its time.
            sent[subjects.HEADER_TTL] = f"{math.ceil(options.ttl)}s"
        return await self._ask_stored(subject, body, sent, options.timeout)

    async def store(self, message: Outgoing) -> int:
        """The same for a message that is made already."""
        return await self._ask_stored(message.subject, message.body, message.wire_headers(), TIMEOUT)

    async def publish_batch(self, messages: Sequence[Outgoing], timeout: float = TIMEOUT) -> None:
        """Store all of them, for one stream and in this order, or none (at most 1,000: the server's bound).

        `Duplicate` when a `msg_id` is known already; `QueueFull`, `Refused` and `Unconfirmed` are as for one message.
        """
        # One that is sent while the connection is away would be kept and sent later, when nobody waits for it.
        if not self.connected:
            await self.await_connection(timeout)
        *before, last = make_batch(secrets.token_hex(16), messages)
        for message in before:
            await self.write(message.subject, "", message.body, message.wire_headers())
        await self._ask_stored(last.subject, last.body, last.wire_headers(), timeout)

    async def _ask_stored(self, subject: str, body: bytes, headers: dict[str, str], timeout: float) -> int:
        answer = await self.collect(subject, body, headers or None, None, timeout)
        if answer.status == "503":
            raise StreamMissing(f"no stream takes {subject}: is the pool (and its operator) there?")
        return read_sequence(answer)

    async def read_last(self, stream: str, subject: str, *, timeout: float = TIMEOUT) -> Stored | None:
        """The last message of `subject`, None when there is none."""
        answer = await self.collect(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", None, None, timeout)
        return read_stored(answer) if not is_absent(answer, stream) else None

    async def read_log(self, stream: str, subject: str, *, timeout: float = TIMEOUT) -> list[Stored]:
        """Every message that `stream` keeps of `subject`, oldest first (a task's log holds at most 32)."""
        ask = {"seq": 1, "next_by_subj": subject, "batch": 2 * subjects.EVENTS_PER_TASK}
        return await self._read_batch(stream, ask, timeout)

    async def read_first(self, stream: str, subject: str, *, timeout: float = TIMEOUT) -> Stored | None:
        """The oldest message of `subject`, None when there is none."""
        found = await self._read_batch(stream, {"seq": 1, "next_by_subj": subject, "batch": 1}, timeout)
        return found[0] if found else None

    async def has_message(self, stream: str, sequence: int) -> bool:
        """Whether the stream still holds this message. The leader says so: a copy that lags might not know it yet."""
        try:
            await self.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
        except NoMessage:
            return False
        return True

    async def delete_message(self, stream: str, sequence: int) -> bool:
        """Take one message out of a stream; False when it was gone already."""
        try:
            await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except NoMessage:
            return False
        return True

    async def read_clock(self, stream: str) -> float:
        """The time (epoch seconds) at the server that stamps this stream's messages."""
        info = await self.api(f"STREAM.INFO.{stream}")
        return datetime.fromisoformat(str(info["ts"])).timestamp()

    async def read_range(
        self, stream: str, subject: str, since: datetime | None = None, *, after: int = 0, page: int = PAGE
    ) -> AsyncIterator[Stored]:
        """Every message of `subject` that was stored at or after `since` (or later than the sequence `after`), oldest
        first, `page` of them at once."""
        begin: dict[str, object] = (
            {"seq": after + 1} if since is None else {"start_time": since.astimezone(UTC).isoformat()}
        )
        while found := await self._read_batch(stream, {**begin, "next_by_subj": subject, "batch": page}, PAGE_TIMEOUT):
            for stored in found:
                yield stored
            begin = {"seq": found[-1].sequence + 1}

    async def read_last_until(self, stream: str, subject: str, until: datetime) -> Stored | None:
        """The last message of `subject` that was stored at or before `until`; None when there is none."""
        ask = {"multi_last": [subject], "up_to_time": until.astimezone(UTC).isoformat()}
        found = await self._read_batch(stream, ask, TIMEOUT)
        return found[-1] if found else None

    async def _read_batch(self, stream: str, ask: Mapping[str, object], timeout: float) -> list[Stored]:
        """What a direct get of several messages finds."""
        found: list[Stored] = []

        def take(answer: Message) -> bool:
            # 204 "EOB" ends a batch; 404 (no such subject), 408 and 503 (no such stream) stand alone.
            if answer.status:
                return True
            found.append(read_stored(answer))
            return False

        last = await self.collect(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(ask), None, take, timeout)
        if last.status != "204":
            is_absent(last, stream)
        return found

    async def schedule(
        self, later: str, target: str, body: bytes, *, headers: Mapping[str, str], at: datetime, msg_id: str
    ) -> int:
        """Store a message (on a subject of `subjects.later`) that the server writes to `target` (of `due`) at `at`."""
        message = Outgoing(later, body, headers, msg_id)
        return await self.store(make_schedule(message, target, at))

    async def purge_later(self, later: str) -> int:
        """Take back a task's schedule; returns how many there were (0 or 1)."""
        ask = orjson.dumps({"filter": later})
        answer = await self.request(f"$JS.API.STREAM.PURGE.{subjects.STREAM_DELAYED}", ask)
        reply = orjson.loads(answer.body)
        if "error" in reply:
            raise make_refusal(reply["error"])
        return int(reply.get("purged", 0))

    async def api(self, name: str, body: object = None, *, timeout: float = TIMEOUT) -> dict[str, object]:
        """A JetStream API request such as `STREAM.INFO.<name>`; the answer as JSON, errors raised."""
        ask = b"" if body is None else orjson.dumps(body)
        answer = await self.request(f"$JS.API.{name}", ask, timeout=timeout)
        reply: dict[str, object] = orjson.loads(answer.body)
        error = reply.get("error")
        if isinstance(error, dict):
            raise make_refusal(error)
        return reply
