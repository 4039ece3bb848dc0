"""One durable pull consumer: requests for messages, deliveries, acks, and deliveries that come again.

Owns what is pending (delivered, not acked) with its lease, and the order: what comes again goes before what is new. An
ack names the message and not the delivery, as the real one does, so a stale ack works. It survives a client that is
gone: a request whose inbox nobody hears any more is dropped when its turn comes.
"""

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from millpond.testing.broker.store import Entry, timestamp
from millpond.testing.broker.stream import Stream
from millpond.testing.broker.wire import NANOSECONDS, Packet, matches, status

DEFAULTS: dict[str, Any] = {
    "deliver_policy": "all",
    "ack_policy": "explicit",
    "ack_wait": 30 * NANOSECONDS,
    "max_deliver": -1,
    "replay_policy": "instant",
    "max_waiting": 512,
    "max_ack_pending": 1000,
    "num_replicas": 0,
}


class Outlet(Protocol):
    """The way to the clients."""

    def hears(self, subject: str) -> bool: ...

    def deliver(self, packet: Packet, to: str = "") -> bool: ...


@dataclass(eq=False)
class Request:
    """A pull: `left` messages may still be sent to `inbox`."""

    inbox: str
    left: int
    no_wait: bool = False
    timer: Any = None


@dataclass(eq=False)
class Pending:
    """A delivered message: the consumer's sequence of its first delivery, and the lease of its last."""

    number: int
    timer: Any = None


@dataclass(eq=False)
class Consumer:
    """A consumer of a stream."""

    config: dict[str, Any]
    stream: Stream
    outlet: Outlet
    created: int
    waiting: deque[Request] = field(default_factory=deque)
    pending: dict[int, Pending] = field(default_factory=dict)
    delivered: int = 0
    """Deliveries so far: the consumer's own sequence."""
    reached: int = 0
    """The highest stream sequence that was delivered."""
    unread: int = 0
    """Messages that were never delivered."""
    _counts: dict[int, int] = field(default_factory=dict)
    _again: deque[int] = field(default_factory=deque)
    _next: int = 1
    _floor: tuple[int, int] = (0, 0)
    _resume: Any = None

    def __post_init__(self) -> None:
        self.unread = sum(1 for _ in self._matching(1))
        self.stream.watchers.append(self)

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def patterns(self) -> list[str]:
        found = self.config.get("filter_subjects") or [self.config.get("filter_subject") or ">"]
        return list(found)

    # ---- the stream's side

    def on_stored(self, entry: Entry) -> None:
        if self._wants(entry):
            self.unread += 1
            self.serve()

    def on_removed(self, entry: Entry) -> None:
        if not self._wants(entry):
            return
        self._counts.pop(entry.sequence, None)
        known = self.pending.pop(entry.sequence, None)
        if known is not None:
            _stop(known.timer)
            self._raise_floor()
        if entry.sequence in self._again:
            self._again.remove(entry.sequence)
        elif known is None and entry.sequence >= self._next:
            self.unread -= 1

    # ---- the clients' side

    def ask(self, packet: Packet) -> None:
        """A pull request (`MSG.NEXT`)."""
        try:
            ask = _parse(packet.data)
        except ValueError as error:
            self._say(packet.reply, status(400, f"Bad Request - {error}"))
            return
        if len(self.waiting) >= self.config["max_waiting"]:
            self._drop_deaf()
        if len(self.waiting) >= self.config["max_waiting"]:
            self._say(packet.reply, status(409, "Exceeded MaxWaiting"))
            return
        request = Request(packet.reply, max(1, ask.get("batch") or 1), bool(ask.get("no_wait")))
        expires = (ask.get("expires") or 0) / NANOSECONDS
        if request.no_wait and not expires and not self.unread and not self._again:
            self._say(request.inbox, status(404, "No Messages"))
            return
        self.waiting.append(request)
        if expires:
            request.timer = self.stream.around.after(expires, lambda: self._end(request, 408, "Request Timeout"))
        self.serve()
        if request.no_wait and not expires and request in self.waiting:
            self._end(request, 404, "No Messages")

    def answer(self, sequence: int, packet: Packet) -> None:
        """An ack or another word about the message `sequence`."""
        word = packet.data.strip()
        known = self.pending.get(sequence)
        if known is None and sequence > self.reached:
            # Never delivered: the server says nothing.
            return
        if word in (b"", b"+ACK", b"+OK") or word.startswith(b"+TERM"):
            self._acked(sequence)
        elif word.startswith(b"+NXT"):
            self._acked(sequence)
            self.ask(Packet("", word[4:].strip(), packet.reply))
            return
        elif word.startswith(b"+WPI"):
            if known is not None:
                self._lease(sequence, known)
        elif word.startswith(b"-NAK") and known is not None:
            self._refused(sequence, known, word[4:].strip())
        if packet.reply:
            self.outlet.deliver(Packet(packet.reply), packet.reply)

    def serve(self) -> None:
        """Deliver while somebody waits and something is there."""
        while self.waiting and not self.paused:
            request = self.waiting[0]
            if not self.outlet.hears(request.inbox):
                self.waiting.popleft()
                _stop(request.timer)
                continue
            sequence = self._take_next()
            if sequence is None:
                return
            # The next one who waits gets the next message: requests are served in turn.
            self.waiting.rotate(-1)
            self._deliver(request, sequence)

    def expire_leases(self) -> None:
        """Every lease is over now, whoever still works."""
        for sequence, known in list(self.pending.items()):
            _stop(known.timer)
            self._over(sequence)

    def forget(self) -> None:
        """As a server that was killed before it wrote down what it had delivered."""
        self.drop_requests()
        for known in self.pending.values():
            _stop(known.timer)
        lowest = min((*self.pending, *self._again), default=self._next)
        self.pending.clear()
        self._again.clear()
        self._counts.clear()
        self._next = min(lowest, self._next)
        self.reached = self._next - 1
        self.unread = sum(1 for _ in self._matching(self._next))

    def drop_requests(self) -> None:
        """The clients are gone."""
        for request in self.waiting:
            _stop(request.timer)
        self.waiting.clear()

    def delete(self) -> None:
        """Say so to who waits."""
        for request in list(self.waiting):
            self._end(request, 409, "Consumer Deleted")
        for known in self.pending.values():
            _stop(known.timer)
        if self in self.stream.watchers:
            self.stream.watchers.remove(self)

    @property
    def paused(self) -> bool:
        until = self.config.get("pause_until_ns", 0)
        return bool(until > self.stream.around.nanoseconds())

    def pause(self, until: int) -> None:
        """No delivery before `until` (nanoseconds since the epoch); 0 or the past ends it."""
        _stop(self._resume)
        self.config["pause_until_ns"] = until
        if self.paused:
            wait = (until - self.stream.around.nanoseconds()) / NANOSECONDS
            self._resume = self.stream.around.after(wait, self.serve)
        else:
            self.serve()

    # ---- inside

    def _wants(self, entry: Entry) -> bool:
        return any(matches(pattern, entry.subject) for pattern in self.patterns)

    def _matching(self, since: int) -> "list[Entry]":
        return [entry for entry in self.stream.store.select(">", since) if self._wants(entry)]

    def _take_next(self) -> int | None:
        """The sequence of what is to be delivered now: what comes again first."""
        while self._again:
            sequence = self._again.popleft()
            if self.stream.store.get(sequence) is not None:
                return sequence
        most = self.config["max_ack_pending"]
        if 0 < most <= len(self.pending):
            return None
        store = self.stream.store
        while self.unread and self._next <= store.last:
            sequence, self._next = self._next, self._next + 1
            entry = store.get(sequence)
            if entry is not None and self._wants(entry):
                self.unread -= 1
                return sequence
        return None

    def _deliver(self, request: Request, sequence: int) -> None:
        entry = self.stream.store.get(sequence)
        assert entry is not None
        count = self._counts[sequence] = self._counts.get(sequence, 0) + 1
        self.delivered += 1
        self.reached = max(self.reached, sequence)
        known = self.pending.setdefault(sequence, Pending(self.delivered))
        self._lease(sequence, known)
        request.left -= 1
        if request.left <= 0:
            self.waiting.remove(request)
            _stop(request.timer)
        place = f"{count}.{sequence}.{self.delivered}.{entry.at}.{self.unread}"
        reply = f"$JS.ACK.{self.stream.name}.{self.name}.{place}"
        self.outlet.deliver(Packet(entry.subject, entry.data, reply, entry.headers), request.inbox)

    def _lease(self, sequence: int, known: Pending) -> None:
        _stop(known.timer)
        wait = self.config["ack_wait"] / NANOSECONDS
        known.timer = self.stream.around.after(wait, lambda: self._over(sequence))

    def _over(self, sequence: int) -> None:
        """The lease of this message has ended."""
        if sequence not in self.pending or sequence in self._again:
            return
        most = self.config["max_deliver"]
        if 0 < most <= self._counts.get(sequence, 0):
            return
        self._again.append(sequence)
        self.serve()

    def _refused(self, sequence: int, known: Pending, how: bytes) -> None:
        """A NAK, perhaps with a delay."""
        try:
            delay = json.loads(how).get("delay", 0) / NANOSECONDS if how else 0.0
        except (ValueError, AttributeError, TypeError):
            delay = 0.0
        _stop(known.timer)
        if delay > 0:
            known.timer = self.stream.around.after(delay, lambda: self._over(sequence))
        else:
            self._over(sequence)

    def _acked(self, sequence: int) -> None:
        known = self.pending.pop(sequence, None)
        if known is not None:
            _stop(known.timer)
            self._counts.pop(sequence, None)
        if sequence in self._again:
            self._again.remove(sequence)
        if self.stream.config["retention"] == "workqueue":
            self.stream.remove(sequence)
        self._raise_floor()
        self.serve()

    def _raise_floor(self) -> None:
        if not self.pending:
            self._floor = (self.delivered, self.reached)
        else:
            lowest = min(self.pending)
            self._floor = (self.pending[lowest].number - 1, lowest - 1)

    def _end(self, request: Request, code: int, text: str) -> None:
        if request not in self.waiting:
            return
        self.waiting.remove(request)
        _stop(request.timer)
        more = {"Nats-Pending-Messages": str(request.left), "Nats-Pending-Bytes": "0"} if code != 404 else {}
        self._say(request.inbox, status(code, text, **more))

    def _say(self, inbox: str, headers: dict[str, str]) -> None:
        self.outlet.deliver(Packet(inbox, headers=headers), inbox)

    def _drop_deaf(self) -> None:
        for request in [one for one in self.waiting if not self.outlet.hears(one.inbox)]:
            self.waiting.remove(request)
            _stop(request.timer)

    def info(self) -> dict[str, Any]:
        """As in CONSUMER.INFO."""
        self._drop_deaf()
        config = {name: value for name, value in self.config.items() if name != "pause_until_ns"}
        return {
            "stream_name": self.stream.name,
            "name": self.name,
            "created": timestamp(self.created),
            "config": config,
            "delivered": {"consumer_seq": self.delivered, "stream_seq": self.reached},
            "ack_floor": {"consumer_seq": self._floor[0], "stream_seq": self._floor[1]},
            "num_ack_pending": len(self.pending),
            "num_redelivered": sum(1 for count in self._counts.values() if count > 1),
            "num_waiting": len(self.waiting),
            "num_pending": self.unread,
            **({"paused": True} if self.paused else {}),
            "ts": timestamp(self.stream.around.nanoseconds()),
        }


def _parse(body: bytes) -> dict[str, Any]:
    """A pull request's body: nothing, a number, or an object."""
    text = body.strip()
    if not text:
        return {}
    if text.isdigit():
        return {"batch": int(text)}
    try:
        ask = json.loads(text)
    except ValueError:
        raise ValueError("unexpected end of JSON input") from None
    if not isinstance(ask, dict):
        raise ValueError("json: cannot unmarshal")
    return ask


def _stop(timer: Any) -> None:
    if timer is not None:
        timer.cancel()
