"""The same script on a real nats-server and on the in-memory broker, answer by answer.

Owns the words of a script (publish, pull, ack, read, …), how many answers each one has, and what is left out of a
comparison: times, sizes on disk and names of servers. What differs otherwise is a fault of the in-memory broker.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 30.0
_LEFT_OUT = ("created", "ts", "cluster", "first_ts", "last_ts", "last_active", "bytes", "time", "metadata", "sources")


@dataclass
class Answer:
    """A message as it came, without what must differ."""

    subject: str
    headers: dict[str, str]
    body: Any
    delivery: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return self.headers.get("Status", "")


@dataclass
class Player:
    """One party at one broker. In a script's names `%` stands for `prefix`, which makes them its own."""

    link: Any
    prefix: str
    _answers: dict[str, asyncio.Queue[Any]] = field(default_factory=dict)
    replies: list[str] = field(default_factory=list)
    """The ack subjects of all deliveries so far."""
    _count: int = 0

    async def start(self) -> "Player":
        await self.link.subscribe(f"{self.prefix}.inbox.*", cb=self._on_message)
        return self

    async def _on_message(self, msg: Any) -> None:
        # A delivery carries its stream's subject, so the inbox is known by the order: one request at a time.
        self._answers["now"].put_nowait(msg)

    async def ask(
        self,
        subject: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        last: Callable[[Answer, int], bool] = lambda answer, count: True,
    ) -> list[Answer]:
        """Send, and collect the answers until `last(answer, how many)`."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._answers["now"] = queue
        self._count += 1
        reply = f"{self.prefix}.inbox.{self._count}"
        await self.link.publish(self._own(subject), self._own_bytes(body), reply, self._own_headers(headers))
        found: list[Answer] = []
        while True:
            msg = await asyncio.wait_for(queue.get(), PATIENCE)
            if msg.reply.startswith("$JS.ACK."):
                self.replies.append(msg.reply)
            found.append(self._read(msg))
            if last(found[-1], len(found)):
                return found

    async def tell(self, subject: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send without an answer."""
        await self.link.publish(self._own(subject), self._own_bytes(body), "", self._own_headers(headers))

    def _own(self, text: str) -> str:
        return text.replace("%", self.prefix)

    def _own_headers(self, headers: Mapping[str, str] | None) -> dict[str, str] | None:
        return {name: self._own(text) for name, text in headers.items()} if headers else None

    def _own_bytes(self, body: bytes) -> bytes:
        return body.replace(b"%", self.prefix.encode())

    def _read(self, msg: Any) -> Answer:
        headers = {str(name): self._plain(text) for name, text in (msg.headers or {}).items()}
        headers.pop("Nats-Time-Stamp", None)
        if "Nats-Stream-Source" in headers:
            # Its last word names the source's own consumer.
            headers["Nats-Stream-Source"] = headers["Nats-Stream-Source"].rpartition(" ")[0]
        # nats-py puts the headers after a status into its text.
        name = next((name for name in headers if "DESCRIPTION" in name or name == "Description"), "")
        if name:
            headers["Description"] = headers.pop(name).strip().partition("\n")[0]
            if headers.get("Status") == "503":
                headers = {"Status": "503"}
        place = msg.reply.split(".") if msg.reply.startswith("$JS.ACK.") else []
        delivery = tuple(self._plain(word) for number, word in enumerate(place) if number != 7)
        subject = "" if ".inbox." in msg.subject else self._plain(msg.subject)
        return Answer(subject, headers, self._body(msg.data), delivery)

    def _body(self, data: bytes) -> Any:
        text = data.replace(self.prefix.encode(), b"%")
        try:
            return _without(json.loads(text))
        except ValueError:
            return text

    def _plain(self, text: str) -> str:
        return text.replace(self.prefix, "%")


def _without(found: Any) -> Any:
    """Without what differs between two servers, or between two moments."""
    if isinstance(found, dict):
        # Of a message that is gone a file store says one thing or the other, by what else its block of the file holds;
        # and where no message is, the sequence of the first one depends on how the last one went.
        if found.get("err_code") in (10043, 10057):
            return {"err_code": "not found"}
        if found.get("messages") == 0:
            found = {name: value for name, value in found.items() if name not in ("first_seq", "num_deleted")}
        return {name: _without(value) for name, value in found.items() if name not in _LEFT_OUT}
    return [_without(one) for one in found] if isinstance(found, list) else found


# ---- the words of a script


async def publish(player: Player, subject: str, headers: Mapping[str, str], body: bytes = b"x") -> list[Answer]:
    return await player.ask(subject, body, headers)


async def publish_batch(player: Player, batch: str, parts: Sequence[tuple[str, Mapping[str, str]]]) -> list[Answer]:
    """An atomic batch; the answer to its last message."""
    found: list[Answer] = []
    for number, (subject, headers) in enumerate(parts, start=1):
        own = {**headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number < len(parts):
            await player.tell(subject, b"x", own)
        else:
            found = await player.ask(subject, b"x", own | {"Nats-Batch-Commit": "1"})
    return found


async def pull(player: Player, stream: str, consumer: str, **ask: Any) -> list[Answer]:
    """A pull; until its batch is full or a status ends it."""
    batch = ask.get("batch", 1)
    return await player.ask(
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        json.dumps(ask).encode(),
        last=lambda answer, count: bool(answer.status) or count >= batch,
    )


async def answer_delivery(player: Player, which: int, word: bytes) -> list[Answer]:
    """Answer one of the deliveries so far, whether it is the last of its message or an old one."""
    if not player.replies:
        return []
    return await player.ask(player.replies[which % len(player.replies)], word)


async def api(player: Player, verb: str, body: Any = None) -> list[Answer]:
    return await player.ask(f"$JS.API.{verb}", b"" if body is None else json.dumps(body).encode())


async def read(player: Player, stream: str, ask: Mapping[str, Any] | str) -> list[Answer]:
    """Direct get: by a subject in the request's subject, or by a body."""
    if isinstance(ask, str):
        return await player.ask(f"$JS.API.DIRECT.GET.{stream}.{ask}")
    many = bool(ask.get("batch") or ask.get("multi_last"))
    return await player.ask(
        f"$JS.API.DIRECT.GET.{stream}",
        json.dumps(ask).encode(),
        last=lambda answer, count: not many or bool(answer.status),
    )
