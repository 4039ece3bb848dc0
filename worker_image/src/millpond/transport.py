"""One NATS connection as the SDK needs it: stored publishes with an answer, direct reads, schedules, subscriptions.

Owns the connection and the correlation of requests with answers: every request of this connection shares one inbox
subscription and waits on a future in a dictionary (a future and a subscription per `js.publish` costs three times
the CPU). It and `connection` below it are the only modules that import nats, and it decides nothing: what an answer
means for a task is said in `outcomes`. It survives a lost connection: what was under way fails at once as
`Unconfirmed`, which is not an answer (the server may have done it), new requests wait for the reconnect within their
timeout, and reconnecting never ends.
"""

import asyncio
import contextlib
import itertools
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import nats
import nats.errors
import orjson
from millpond_api import subjects

from millpond.answers import (
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
from millpond.connection import Connection
from millpond.link import Arrived, Link, LinkSubscription, Listener, listen, make_link, make_message
from millpond.outgoing import Outgoing, make_batch, make_schedule, wire_headers

__all__ = [
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

TIMEOUT = 5.0
"""Seconds that a request may take before it counts as unconfirmed; a healthy server answers in milliseconds."""
_SWEEP = 0.25
"""Seconds between looks for requests past their time: one timer for all is cheaper than one each."""
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


@dataclass(slots=True)
class Hooks:
    """What the owner wants to hear about the connection. Called in the connection's loop; must not block."""

    disconnected: Callable[[], None] = lambda: None
    reconnected: Callable[[], None] = lambda: None
    error: Callable[[Exception], None] = lambda _: None


@dataclass(slots=True)
class _Pending:
    """A request under way: `take` gets each answer and says whether that was the last one; without it the first is."""

    future: "asyncio.Future[Message]"
    expires: float
    take: Callable[[Message], bool] | None


class Subscription:
    """A core subscription; `close` ends it."""

    def __init__(self, inner: LinkSubscription) -> None:
        self._inner = inner

    async def close(self) -> None:
        # A closed connection has already forgotten the subscription.
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._inner.unsubscribe()

    async def drain(self) -> None:
        """End it; when this returns, everything that the server had sent has been handed to the callback."""
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await self._inner.drain()


@dataclass
class Transport:
    """A connected transport; make it with `connect`. Belongs to the event loop that made it."""

    _connection: Link
    _hooks: Hooks
    _prefix: str = field(default_factory=lambda: f"_INBOX.{secrets.token_hex(8)}")
    _tokens: "itertools.count[int]" = field(default_factory=itertools.count)
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _connected: asyncio.Event = field(default_factory=asyncio.Event)
    _sweeper: asyncio.TimerHandle | None = None

    @classmethod
    async def connect(
        cls, url: str, name: str, *, hooks: Hooks | None = None, timeout: float | None = None
    ) -> "Transport":
        """Connected to `url`, trying for `timeout` seconds (None: for ever); `Unconfirmed` when it could not be."""
        connection = make_link(url, Connection)
        transport = cls(connection, hooks or Hooks())
        try:
            async with asyncio.timeout(timeout):
                await connection.connect(
                    url.split(","),
                    name=name,
                    # The default gives up after 60 tries; a worker outlives any outage of the broker.
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,
                    ping_interval=10,
                    connect_timeout=5,
                    # Subjects are built by millpond_api.subjects, which has checked every token already.
                    skip_subject_validation=True,
                    error_cb=transport._on_error,
                    disconnected_cb=transport._on_disconnect,
                    reconnected_cb=transport._on_reconnect,
                )
        except TimeoutError:
            reason = connection.last_error or "no answer"
            await connection.close()
            raise Unconfirmed(f"no NATS server answers at {url} within {timeout:g} s ({reason})") from None
        transport._connected.set()
        await listen(connection, f"{transport._prefix}.*", transport._on_answer)
        return transport

    @property
    def connected(self) -> bool:
        return self._connection.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes of a message that the server takes, headers included."""
        return self._connection.max_payload

    async def close(self) -> None:
        """Flush what was sent, as far as the server is there, and close."""
        if self._sweeper:
            self._sweeper.cancel()
        if self._connection.is_connected:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await self._connection.flush(timeout=2)
        # Disconnected, nats-py still tries to write what it had buffered, to a transport that is gone.
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError, RuntimeError):
            await self._connection.close()
        self._fail_all("the connection was closed")

    async def flush(self, timeout: float = 2.0) -> bool:
        """Whether the server has seen everything sent so far."""
        try:
            await self._connection.flush(timeout=timeout)  # type: ignore[arg-type]  # annotated int, any number works
        except (nats.errors.Error, TimeoutError, OSError):
            return False
        return True

    async def send(self, subject: str, body: bytes = b"", *, reply: str = "") -> bool:
        """Core publish without an answer. False: not connected, dropped (nothing old is sent after a reconnect)."""
        if not self._connection.is_connected:
            return False
        await self._connection.publish(subject, body, reply)
        return True

    async def listen(self, subject: str, listener: Listener) -> Subscription:
        """`listener` for every message on `subject`, at once and in order; a plain function that must not block."""
        return Subscription(await listen(self._connection, subject, listener))

    async def subscribe(
        self, subject: str, callback: Callable[[Message], Awaitable[None]], *, queue: str = "", limit: int = 0
    ) -> Subscription:
        """`callback` for every message on `subject`, one after the other; it lives through reconnects.

        With a `limit` the server ends it by itself after that many messages: what comes then costs nobody anything.
        """

        async def deliver(msg: Arrived) -> None:
            await callback(make_message(msg))

        inner = await self._connection.subscribe(subject, queue=queue, cb=deliver)
        if limit:
            # Refused when all of them have come already.
            with contextlib.suppress(nats.errors.BadSubscriptionError):
                await inner.unsubscribe(limit)
        return Subscription(inner)

    def new_inbox(self) -> str:
        """A subject for answers that nobody else uses and that the request correlator does not hear."""
        return f"_INBOX.{secrets.token_hex(11)}"

    async def request(self, subject: str, body: bytes = b"", *, timeout: float = TIMEOUT) -> Message:
        """The one answer to a request; `StreamMissing` when nobody listens, `Unconfirmed` without an answer."""
        answer = await self._collect(subject, body, None, None, timeout)
        if answer.status == "503":
            raise StreamMissing(f"nobody answers on {subject}: its stream, consumer or responder does not exist")
        return answer

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
        if not self._connection.is_connected:
            await self._await_connection(timeout)
        *before, last = make_batch(secrets.token_hex(16), messages)
        for message in before:
            await self._write(message.subject, "", message.body, message.wire_headers())
        await self._ask_stored(last.subject, last.body, last.wire_headers(), timeout)

    async def _ask_stored(self, subject: str, body: bytes, headers: dict[str, str], timeout: float) -> int:
        answer = await self._collect(subject, body, headers or None, None, timeout)
        if answer.status == "503":
            raise StreamMissing(f"no stream takes {subject}: is the pool (and its operator) there?")
        return read_sequence(answer)

    async def read_last(self, stream: str, subject: str, *, timeout: float = TIMEOUT) -> Stored | None:
        """The last message of `subject`, None when there is none."""
        answer = await self._collect(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", None, None, timeout)
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
        self, stream: str, subject: str, since: datetime | None = None, *, page: int = PAGE
    ) -> AsyncIterator[Stored]:
        """Every message of `subject` that was stored at or after `since`, oldest first, `page` of them at once."""
        begin: dict[str, object] = {"seq": 1} if since is None else {"start_time": since.astimezone(UTC).isoformat()}
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

        last = await self._collect(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(ask), None, take, timeout)
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

    async def _collect(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None,
        take: Callable[[Message], bool] | None,
        timeout: float,
    ) -> Message:
        """Send a request and wait for its answer; with `take`, until that has seen the last one."""
        if not self._connection.is_connected:
            await self._await_connection(timeout)
        token = str(next(self._tokens))
        loop = asyncio.get_running_loop()
        pending = _Pending(loop.create_future(), loop.time() + timeout, take)
        self._pending[token] = pending
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP, self._sweep)
        try:
            await self._write(subject, f"{self._prefix}.{token}", body, headers)
            return await pending.future
        finally:
            self._pending.pop(token, None)

    async def _write(self, subject: str, reply: str, body: bytes, headers: dict[str, str] | None) -> None:
        """Send; what the client raises becomes a typed error."""
        try:
            await self._connection.publish(subject, body, reply, headers)
        except nats.errors.MaxPayloadError:
            limit = self._connection.max_payload
            raise Refused(f"{len(body)} bytes for {subject}: the server takes at most {limit}") from None
        except (nats.errors.Error, OSError) as error:
            raise Unconfirmed(f"{subject}: {error}") from error

    async def _await_connection(self, timeout: float) -> None:
        if self._connection.is_closed:
            raise Unconfirmed("the connection was closed")
        try:
            await asyncio.wait_for(self._connected.wait(), timeout)
        except TimeoutError:
            raise Unconfirmed(f"not connected to NATS for {timeout:g} s: {self._connection.last_error}") from None

    def _on_answer(self, answer: Message) -> None:
        # No entry: the one who asked has given up; the answer is dropped on purpose.
        pending = self._pending.get(answer.subject.rpartition(".")[2])
        if pending and not pending.future.done() and (pending.take is None or pending.take(answer)):
            pending.future.set_result(answer)

    async def _on_error(self, error: Exception) -> None:
        self._hooks.error(error)

    async def _on_disconnect(self) -> None:
        self._connected.clear()
        self._fail_all("the connection to NATS was lost")
        self._hooks.disconnected()

    async def _on_reconnect(self) -> None:
        self._connected.set()
        self._hooks.reconnected()

    def _fail_all(self, reason: str) -> None:
        for pending in list(self._pending.values()):
            if not pending.future.done():
                pending.future.set_exception(Unconfirmed(reason))

    def _sweep(self) -> None:
        """Fail what waits longer than its timeout; look again while anything waits at all."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for pending in list(self._pending.values()):
            if pending.expires < now and not pending.future.done():
                pending.future.set_exception(Unconfirmed("no answer from NATS in time"))
        self._sweeper = loop.call_later(_SWEEP, self._sweep) if self._pending else None
