"""nats-py's client with a reader and a writer of our own: less than half of its CPU for each message in and out.

nats-py keeps what is hard and rare (connecting, TLS, authentication, reconnecting, pings). What happens 30,000 times
a second is ours: messages are cut out of the stream and handed to plain functions in the same step (nats-py: regular
expressions, an asyncio queue and a task for each subscription), and publishes gather in its buffer until the loop has
nothing else to do (nats-py: a future through a queue each). It decides nothing and survives what nats-py survives:
after a reconnect the reader begins anew and the listeners are subscribed again, under their old numbers.
"""

import asyncio
import json
from collections.abc import Mapping

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from millpond.frames import encode_publish, parse_message
from millpond.link import Listener

_LINE_MOST = 64 * 1024
"""Bytes of a control line, INFO with its list of servers included; without an end by then it is not NATS."""


class Connection(Client):
    """A `nats.aio.client.Client` whose `listen` and `publish` are the fast way in and out."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: dict[bytes, Listener] = {}
        self._ps = Reader(self, self._listeners)  # type: ignore[assignment]  # the same two methods as nats-py's
        self._kicked = False

    async def listen(self, subject: str, listener: Listener) -> Subscription:
        """`listener` for every message on `subject`, in the step that read it: it must not block."""
        # With a future nats-py starts no task for the subscription; nothing ever reaches it.
        inner = await self.subscribe(subject, future=asyncio.get_running_loop().create_future())
        self._listeners[b"%d" % inner._id] = listener
        return inner

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish; it leaves when the loop comes round, together with what else is written by then.

        Waits only when more than 2 MiB are waiting already. Headers count for the server's limit too.
        """
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        frame = encode_publish(subject, reply, payload, headers)
        if len(frame) > self._max_payload and (excess := _size(frame)) > self._max_payload:
            raise nats.errors.MaxPayloadError(f"{excess} bytes")
        full = self._pending_data_size + len(frame) > self._max_pending_size
        if full and not self.is_connected:
            raise nats.errors.OutboundBufferLimitError
        self._pending.append(frame)
        self._pending_data_size += len(frame)
        if full:
            await self._flush_pending(force_flush=True)
        elif not self._kicked:
            self._kicked = True
            asyncio.get_running_loop().call_soon(self._kick)

    def _kick(self) -> None:
        self._kicked = False
        # One that is waiting there already takes everything along.
        if self._flush_queue is not None and self._flush_queue.empty() and self.is_connected:
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._listeners.pop(b"%d" % sid, None)
        super()._remove_sub(sid, max_msgs)


class Reader:
    """Cuts the server's bytes into messages and commands; in the place of nats-py's parser."""

    def __init__(self, client: Connection, listeners: Mapping[bytes, Listener]) -> None:
        self._client, self._listeners = client, listeners
        self._rest, self._resets = b"", 0

    def reset(self) -> None:
        """Another connection: what was cut off in the middle will never be completed."""
        self._rest, self._resets = b"", self._resets + 1

    async def parse(self, data: bytes = b"") -> None:
        """Hand out every complete message and command; what is incomplete waits for the next bytes."""
        buffer = self._rest + data if self._rest else data
        self._rest, position, size, resets = b"", 0, len(buffer), self._resets
        while (end := buffer.find(b"\r\n", position)) >= 0:
            begin = end + 2
            # M or H: MSG and HMSG. Everything else is rare.
            if (first := buffer[position]) not in (77, 72):
                await self._obey(buffer[position:end])
                if self._resets != resets:
                    return
                position = begin
                continue
            words = buffer[position:end].split()
            try:
                stop = begin + int(words[-1])
                body = begin + int(words[-2]) if first == 72 else begin
            except (ValueError, IndexError):
                raise nats.errors.ProtocolError(f"nats: malformed {buffer[position:end][:80]!r}") from None
            if stop + 2 > size:
                break
            position = stop + 2
            listener = self._listeners.get(words[2])
            if listener is None:
                await self._pass_on(words, buffer[begin:body], buffer[body:stop])
                continue
            try:
                listener(parse_message(words, buffer[begin:body], buffer[body:stop]))
            # One message that its listener cannot take must not end the connection for all the others.
            except Exception as error:
                await self._client._error_cb(error)
        self._rest = buffer[position:]
        if len(self._rest) > _LINE_MOST and b"\r\n" not in self._rest:
            raise nats.errors.ProtocolError("nats: a control line without an end")

    async def _pass_on(self, words: list[bytes], block: bytes, body: bytes) -> None:
        """To a subscription of nats-py's own kind."""
        reply = words[3] if len(words) == (6 if block else 5) else b""
        await self._client._process_msg(int(words[2]), words[1], reply, body, block)

    async def _obey(self, line: bytes) -> None:
        """A command of the server."""
        word, _, rest = line.partition(b" ")
        match word.upper():
            case b"PING":
                await self._client._process_ping()
            case b"PONG":
                await self._client._process_pong()
            case b"INFO":
                await self._client._process_info(json.loads(rest))
            case b"-ERR":
                await self._client._process_err(rest.decode(errors="replace").lower())
            case b"+OK" | b"":
                pass
            case _:
                raise nats.errors.ProtocolError(f"nats: unknown protocol {line[:80]!r}")


def _size(frame: bytes) -> int:
    """Headers and body of a publish, as the server counts them."""
    line = frame[: frame.index(b"\r\n")]
    return int(line.rpartition(b" ")[2])
