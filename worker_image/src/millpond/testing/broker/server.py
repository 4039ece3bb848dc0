"""The broker: takes packets from links, routes them, keeps streams and consumers, answers.

Owns the parts and the order in which a packet meets them: who listens, then what stores it. Everything happens in one
event loop, in one step a packet, so what a client sees is what some real server could have shown it. It survives being
stopped and started (streams stay, connections go), and `hard` also forgets what had been delivered, as a kill may do.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from millpond_api.events import utc_now

from millpond.testing.broker import api, schedules
from millpond.testing.broker.batches import Batches
from millpond.testing.broker.consumer import Consumer
from millpond.testing.broker.reading import read_direct
from millpond.testing.broker.routing import Router
from millpond.testing.broker.sources import Source
from millpond.testing.broker.store import Entry
from millpond.testing.broker.stream import Stream, encode_answer
from millpond.testing.broker.wire import Packet, Refusal, status, transform

MAX_PAYLOAD = 1024 * 1024
_DIRECT, _NEXT, _ACK = "$JS.API.DIRECT.GET.", "$JS.API.CONSUMER.MSG.NEXT.", "$JS.ACK."


class Broker:
    """One server. Make it in the event loop that it is to live in."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.router = Router()
        self.running = True
        self._streams: dict[str, Stream] = {}
        self._consumers: dict[tuple[str, str], Consumer] = {}
        self._sources: dict[str, list[Source]] = {}
        self._batches = Batches()
        self._stamps = itertools.count()
        self._last_stamp = 0
        self.site = api.Site(
            self._streams, self._consumers, self._make_stream, self._drop_stream, self._make_consumer, self.nanoseconds
        )

    # ---- what streams and consumers need

    def nanoseconds(self) -> int:
        """Now, since the epoch; it never goes back and never stands still, as a server's clock does not."""
        now = utc_now()
        found = int(now.timestamp()) * 1_000_000_000 + now.microsecond * 1000
        self._last_stamp = max(found, self._last_stamp + 1)
        return self._last_stamp

    def after(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(max(0.0, seconds), call)

    def soon(self, call: Callable[[], None]) -> None:
        self.loop.call_soon(call)

    def republish(self, stream: Stream, entry: Entry, previous: int) -> None:
        rule = stream.config.get("republish")
        subject = transform(rule.get("src") or ">", rule["dest"], entry.subject) if rule else None
        if not rule or subject is None:
            return
        headers = {
            **entry.headers,
            "Nats-Stream": stream.name,
            "Nats-Subject": entry.subject,
            "Nats-Sequence": str(entry.sequence),
            "Nats-Time-Stamp": entry.time,
            "Nats-Last-Sequence": str(previous),
        }
        if rule.get("headers_only"):
            headers["Nats-Msg-Size"] = str(len(entry.data))
        self.router.deliver(Packet(subject, b"" if rule.get("headers_only") else entry.data, "", headers))

    # ---- life

    def stop(self, *, hard: bool = False) -> None:
        """Every connection is to end now (their links do that); streams stay."""
        self.running = False
        for consumer in self._consumers.values():
            consumer.drop_requests()
            if hard:
                consumer.forget()

    def start(self) -> None:
        self.running = True

    def consumers(self, stream: str) -> list[Consumer]:
        return self.site.consumers_of(stream)

    # ---- packets

    def receive(self, packet: Packet) -> None:
        """A client's message: to whoever listens, and to what stores it."""
        heard = self.router.deliver(packet)
        if packet.subject.startswith("$JS."):
            heard = self._serve(packet) or heard
        else:
            stream = next((one for one in self._streams.values() if one.takes(packet.subject)), None)
            if stream is not None:
                self._store(stream, packet)
                return
        if not heard and packet.reply:
            self.router.deliver(Packet(packet.reply, headers=status(503)), packet.reply)

    def _serve(self, packet: Packet) -> bool:
        """A request to JetStream; whether somebody is there to answer."""
        subject = packet.subject
        if subject.startswith(_ACK):
            return self._ack(packet)
        if subject.startswith(_NEXT):
            stream, _, name = subject.removeprefix(_NEXT).partition(".")
            consumer = self._consumers.get((stream, name))
            if consumer is not None:
                consumer.ask(packet)
            return consumer is not None
        if subject.startswith(_DIRECT):
            return self._read(packet)
        answer = api.handle(self.site, subject, packet.data)
        if answer is not None and packet.reply:
            self.router.deliver(Packet(packet.reply, answer), packet.reply)
        return True

    def _ack(self, packet: Packet) -> bool:
        """`$JS.ACK.<stream>.<consumer>.<count>.<sequence>.…`"""
        tokens = packet.subject.split(".")
        consumer = self._consumers.get((tokens[2], tokens[3])) if len(tokens) >= 9 else None
        if consumer is None:
            return False
        if tokens[5].isdigit():
            consumer.answer(int(tokens[5]), packet)
        return True

    def _read(self, packet: Packet) -> bool:
        name, _, subject = packet.subject.removeprefix(_DIRECT).partition(".")
        stream = self._streams.get(name)
        if stream is None or not stream.config["allow_direct"]:
            return False
        for answer in read_direct(stream, subject, packet.data):
            answer.subject = packet.reply
            self.router.deliver(answer, packet.reply)
        return True

    def _store(self, stream: Stream, packet: Packet) -> None:
        headers = packet.headers or {}
        answer: dict[str, object] | None
        try:
            if "Nats-Batch-Id" in headers:
                answer = self._batches.publish(stream, packet.subject, headers, packet.data)
            else:
                schedules.check(stream, packet.subject, headers) if stream.config.get("allow_msg_schedules") else None
                answer = stream.publish(packet.subject, headers, packet.data)
        except Refusal as refusal:
            answer = {"error": refusal.encode(), "stream": stream.name, "seq": 0}
        if packet.reply:
            # A message amid a batch that asks for an answer gets an empty one.
            self.router.deliver(Packet(packet.reply, encode_answer(answer) if answer else b""), packet.reply)

    # ---- streams and consumers

    def _make_stream(self, config: dict[str, Any]) -> Stream:
        stream = self._streams[config["name"]] = Stream(config, self, self.nanoseconds())
        if config.get("allow_msg_schedules"):
            stream.watchers.append(schedules.Schedules(stream))
        for source in config.get("sources", ()):
            origin = self._streams.get(source["name"])
            if origin is not None:
                found = Source(origin, stream, source)
                self._sources.setdefault(stream.name, []).append(found)
                found.start()
        return stream

    def _drop_stream(self, stream: Stream) -> None:
        for source in self._sources.pop(stream.name, ()):
            source.stop()
        for consumer in self.consumers(stream.name):
            consumer.delete()
            del self._consumers[stream.name, consumer.name]
        del self._streams[stream.name]

    def _make_consumer(self, stream: Stream, config: dict[str, Any]) -> Consumer:
        consumer = Consumer(config, stream, self.router, self.nanoseconds())
        self._consumers[stream.name, consumer.name] = consumer
        return consumer
