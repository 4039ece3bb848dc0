"""What the transport needs of a connection, and who makes one for a URL.

Owns the port between `transport` and what carries its messages: nats-py for `nats://…` (and `tls://`, `ws://`), which
the transport itself brings, or a broker in this process (`millpond.testing`) under a scheme of its own. A link speaks
subjects, headers and bytes and knows nothing of tasks, so everything above it is the same code on every broker.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from millpond.answers import Message

Listener = Callable[[Message], None]
"""What a message is handed to at once, in the order of arrival; it must not block."""


class Arrived(Protocol):
    """A message as a link hands it over."""

    subject: str
    reply: str
    data: bytes

    @property
    def headers(self) -> Mapping[str, str] | None: ...


class LinkSubscription(Protocol):
    """Ends a subscription: now, after `limit` messages in all, or once all that was sent has been handed over."""

    async def unsubscribe(self, limit: int = 0) -> None: ...

    async def drain(self) -> None: ...


class Link(Protocol):
    """A connection. What it raises when it cannot send is an OSError (or nats-py's own errors)."""

    @property
    def is_connected(self) -> bool: ...

    @property
    def is_closed(self) -> bool: ...

    @property
    def last_error(self) -> Exception | None: ...

    @property
    def max_payload(self) -> int: ...

    async def connect(self, servers: Any = ..., **options: Any) -> None: ...

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None: ...

    async def subscribe(
        self, subject: str, queue: str = "", cb: Callable[[Any], Awaitable[None]] | None = None
    ) -> Any: ...

    async def flush(self, timeout: int = 10) -> None: ...

    async def close(self) -> None: ...


_MAKERS: dict[str, Callable[[str], Link]] = {}


def register_scheme(scheme: str, make: Callable[[str], Link]) -> None:
    """URLs that begin with `scheme://` are connected by what `make(url)` returns."""
    _MAKERS[scheme] = make


def make_link(url: str, default: Callable[[], Any]) -> Link:
    """An unconnected link for the URL; `default` makes one of the schemes that nobody registered."""
    make = _MAKERS.get(url.partition("://")[0])
    link: Link = make(url) if make else default()
    return link


async def listen(link: Link, subject: str, listener: Listener) -> LinkSubscription:
    """`listener` for every message on `subject`; a link without a way of its own for that hands over by a task."""
    own = getattr(link, "listen", None)

    async def deliver(msg: Arrived) -> None:
        listener(make_message(msg))

    found: LinkSubscription = await (own(subject, listener) if own else link.subscribe(subject, cb=deliver))
    return found


def make_message(msg: Arrived) -> Message:
    """The message in the transport's own form."""
    return Message(msg.subject, msg.reply, msg.headers or {}, msg.data)
