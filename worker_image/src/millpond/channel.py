"""One NATS connection: what is sent, what is heard, and which answer belongs to which request.

Owns the connection and the correlation of requests with answers: every request of this connection shares one inbox
subscription and waits on a future in a dictionary (a future and a subscription per `js.publish` costs three times
the CPU). It knows nothing of JetStream: `transport` builds on it. It survives a lost connection: what was under way
fails at once as `Unconfirmed`, which is not an answer (the server may have done it), new requests wait for the
reconnect within their timeout, and reconnecting never ends.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import nats
import nats.errors

from millpond.access import Access, read_access, redact_url
from millpond.answers import AccessRefused, Message, Refused, StreamMissing, Unconfirmed
from millpond.connection import Connection
from millpond.link import Arrived, Link, LinkSubscription, Listener, listen, make_link, make_message
from millpond.pausing import happens

TIMEOUT = 5.0
"""Seconds that a request may take before it counts as unconfirmed; a healthy server answers in milliseconds."""
REFUSALS = ("authorization violation", "authentication")
"""In the server's words (server/errors.go): what it says to credentials that it does not take."""
_SWEEP = 0.25
"""Seconds between looks for requests past their time: one timer for all is cheaper than one each."""


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
class Channel:
    """A connection; make it with `connect`. Belongs to the event loop that made it."""

    _connection: Link
    _hooks: Hooks
    _access: Access
    _patient: bool = True
    """Whether credentials that the server refuses are tried again: it may learn of them."""
    _prefix: str = field(init=False)
    _tokens: "itertools.count[int]" = field(default_factory=itertools.count)
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _connected: asyncio.Event = field(default_factory=asyncio.Event)
    _sweeper: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self._prefix = f"{self._access.inbox}.{secrets.token_hex(8)}"

    @classmethod
    async def connect(
        cls,
        url: str,
        name: str,
        *,
        hooks: Hooks | None = None,
        timeout: float | None = None,
        access: Access | None = None,
    ) -> Self:
        """Connected to `url`, trying for `timeout` seconds (None: for ever); `Unconfirmed` when it could not be.

        `access` is the environment's (`read_access`) when not given; AccessError when it can't work. `AccessRefused`
        when the server refuses it, with a timeout at once; without one it is tried for ever, as if it were away.
        """
        access = access.check() if access else read_access()
        connection = make_link(url, Connection)
        channel = cls(connection, hooks or Hooks(), access, _patient=timeout is None)
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
                    error_cb=channel._on_error,
                    disconnected_cb=channel._on_disconnect,
                    reconnected_cb=channel._on_reconnect,
                    **access.options(),
                )
        except TimeoutError:
            reason = connection.last_error or "no answer"
            await connection.close()
            raise Unconfirmed(f"no NATS server answers at {redact_url(url)} within {timeout:g} s ({reason})") from None
        except AccessRefused as error:
            await connection.close()
            raise AccessRefused(f"NATS at {redact_url(url)} does not let in {access.who}: {error}") from None
        channel._patient = True
        channel._connected.set()
        await listen(connection, f"{channel._prefix}.*", channel._on_answer)
        return channel

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
        return f"{self._access.inbox}.{secrets.token_hex(11)}"

    async def request(self, subject: str, body: bytes = b"", *, timeout: float = TIMEOUT) -> Message:
        """The one answer to a request; `StreamMissing` when nobody listens, `Unconfirmed` without an answer."""
        answer = await self.collect(subject, body, None, None, timeout)
        if answer.status == "503":
            raise StreamMissing(f"nobody answers on {subject}: its stream, consumer or responder does not exist")
        return answer

    async def collect(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None,
        take: Callable[[Message], bool] | None,
        timeout: float,
    ) -> Message:
        """Send a request and wait for its answer; with `take`, until that has seen the last one."""
        if not self._connection.is_connected:
            await self.await_connection(timeout)
        token = str(next(self._tokens))
        loop = asyncio.get_running_loop()
        pending = _Pending(loop.create_future(), loop.time() + timeout, take)
        self._pending[token] = pending
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP, self._sweep)
        try:
            await self.write(subject, f"{self._prefix}.{token}", body, headers)
            return await pending.future
        finally:
            self._pending.pop(token, None)

    async def write(self, subject: str, reply: str, body: bytes, headers: dict[str, str] | None) -> None:
        """Send; what the client raises becomes a typed error."""
        try:
            await self._connection.publish(subject, body, reply, headers)
        except nats.errors.MaxPayloadError:
            limit = self._connection.max_payload
            raise Refused(f"{len(body)} bytes for {subject}: the server takes at most {limit}") from None
        except (nats.errors.Error, OSError) as error:
            raise Unconfirmed(f"{subject}: {error}") from error

    async def await_connection(self, timeout: float) -> None:
        if self._connection.is_closed:
            raise Unconfirmed("the connection was closed")
        if not await happens(self._connected, timeout):
            raise Unconfirmed(f"not connected to NATS for {timeout:g} s: {self._connection.last_error}")

    def _on_answer(self, answer: Message) -> None:
        # No entry: the one who asked has given up; the answer is dropped on purpose.
        pending = self._pending.get(answer.subject.rpartition(".")[2])
        if pending and not pending.future.done() and (pending.take is None or pending.take(answer)):
            pending.future.set_result(answer)

    async def _on_error(self, error: Exception) -> None:
        self._hooks.error(error)
        # nats-py calls this amid its tries to connect: what is raised here ends them.
        if not self._patient and any(word in str(error).lower() for word in REFUSALS):
            raise AccessRefused(str(error))

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
        """Fail what waits longer than its timeout; look again while anything waits at all.

        A sweep that comes late says that this loop stood still (it was blocked, the process was stopped, the machine
        slept): answers that came meanwhile are not read yet, so that time is nobody's silence.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = now - self._sweeper.when() if self._sweeper else 0.0
        for pending in list(self._pending.values()):
            if late > _SWEEP:
                pending.expires += late
            if pending.expires < now and not pending.future.done():
                pending.future.set_exception(Unconfirmed("no answer from NATS in time"))
        self._sweeper = loop.call_later(_SWEEP, self._sweep) if self._pending else None
