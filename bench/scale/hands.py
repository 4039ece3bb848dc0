"""Stand-ins for the workers of pods that only kwok runs: `python -m bench.scale.hands`, a process beside the cluster.

Owns one `Hand` for each Running pod of the namespace: it stores its transitions, sends a worker's heartbeats on the
wire (changes at once, then three a second apart, then every three seconds, as the worker's keeper does) and answers
the drain RPC as a worker does: a busy one refuses, an idle one takes nothing more. It runs no tasks: whether hands
are busy says the bench (`bench.hands`). It counts pods that were deleted while their hand was busy: there must be none.
"""

import argparse
import asyncio
import collections
import heapq
import itertools
import random
import secrets
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import uvloop
from millpond.transport import Message, Transport
from millpond_api import LABEL_POOL, subjects
from millpond_api.events import Beat, DrainAsk, InFlight, RpcAnswer, WorkerEvent, utc_now
from millpond_operator.cluster.api import Api
from millpond_operator.cluster.cache import Body, Cache
from millpond_operator.cluster.informer import Informer
from millpond_operator.cluster.keeping import keep_pod

COMMANDS = "bench.hands"
BEAT = 1.0
CALM_AFTER, CALM_FACTOR = 3, 3
HANDLERS = ("census.parse", "census.fold", "census.report")


@dataclass
class Hand:
    """One worker as it shows itself."""

    namespace: str
    pool: str
    name: str
    beat: Beat
    encoded: bytes = b""
    unchanged: int = 0
    turn: int = 0
    gone: bool = False

    @property
    def busy(self) -> bool:
        return bool(self.beat.in_flight)

    @property
    def drained(self) -> bool:
        return self.beat.state in ("Draining", "Stopped")


@dataclass
class Hands:
    """All of them; `say` and `toggle` change one, `run` sends what is due."""

    transport: Transport
    busy: bool = True
    hands: dict[str, Hand] = field(default_factory=dict)
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    _due: list[tuple[float, int, Hand]] = field(default_factory=list)
    _turns: "itertools.count[int]" = field(default_factory=itertools.count)
    _outbox: collections.deque[tuple[str, bytes]] = field(default_factory=collections.deque)

    def on_pod(self, old: Body | None, new: Body | None) -> None:
        """A pod runs, is going, or is gone."""
        if new is None or "deletionTimestamp" in new["metadata"]:
            self._lose((new or old or {})["metadata"]["name"])
        elif new.get("status", {}).get("phase") == "Running" and new["metadata"]["name"] not in self.hands:
            self._begin(new)

    def _begin(self, pod: Body) -> None:
        meta, now = pod["metadata"], utc_now()
        beat = Beat(state="Starting", at=now, started=now, slots=1, handlers=HANDLERS, incarnation=secrets.token_hex(4))
        hand = self.hands[meta["name"]] = Hand(meta["namespace"], meta["labels"][LABEL_POOL], meta["name"], beat)
        self.store(hand, "Starting", "Started")
        self.say(hand, "Idle", "Ready")
        if self.busy:
            self.take(hand)

    def _lose(self, name: str) -> None:
        hand = self.hands.pop(name, None)
        if hand is not None:
            hand.gone = True
            self.counts["interrupted" if hand.busy else "undrained" if not hand.drained else "ended"] += 1

    def say(self, hand: Hand, state: str, reason: str) -> None:
        """The hand goes to another state."""
        self.store(hand, state, reason)
        self.show(hand, replace(hand.beat, state=state, at=utc_now()))

    def take(self, hand: Hand) -> None:
        """It claims a task: the next one, when it runs one already."""
        now, more = utc_now(), int(hand.busy)
        task = InFlight(task=secrets.token_hex(8), handler=HANDLERS[0], since=now)
        self.store(hand, "Busy", "SlotTaken")
        done = hand.beat.succeeded + more
        self.show(hand, replace(hand.beat, state="Busy", at=now, in_flight=[task], succeeded=done))

    def give(self, hand: Hand) -> None:
        """Its task is done."""
        self.store(hand, "Idle", "SlotsFree")
        done = hand.beat.succeeded + 1
        self.show(hand, replace(hand.beat, state="Idle", at=utc_now(), in_flight=[], succeeded=done))

    def store(self, hand: Hand, state: str, reason: str) -> None:
        event = WorkerEvent(state=state, at=utc_now(), reason=reason)
        self._send(subjects.worker_events(hand.namespace, hand.pool, hand.name), event.encode())

    def show(self, hand: Hand, beat: Beat) -> None:
        hand.beat, hand.encoded, hand.unchanged = beat, beat.encode(), 0
        self._beat(hand)

    def _beat(self, hand: Hand) -> None:
        """Send its beat, and plan the next one instead of what was planned."""
        self.counts["beats"] += 1
        self._send(subjects.beat(hand.namespace, hand.pool, hand.name), hand.encoded)
        hand.turn = next(self._turns)
        pause = BEAT if hand.unchanged < CALM_AFTER else BEAT * CALM_FACTOR
        heapq.heappush(self._due, (time.monotonic() + pause, hand.turn, hand))

    def _send(self, subject: str, body: bytes) -> None:
        self._outbox.append((subject, body))

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, turn, hand = heapq.heappop(self._due)
                if turn == hand.turn and not hand.gone:
                    hand.unchanged += 1
                    self._beat(hand)
            while self._outbox:
                await self.transport.send(*self._outbox.popleft())
            await asyncio.sleep(0.02)

    # ---- what is asked

    async def on_rpc(self, message: Message) -> None:
        """The drain RPC, as `millpond.worker.rpc` answers it."""
        *_, name, verb = message.subject.split(".")
        hand = self.hands.get(name)
        if hand is None or not message.reply:
            return
        answer = RpcAnswer(state=hand.beat.state, in_flight=len(hand.beat.in_flight))
        if verb == "drain":
            ask = DrainAsk.decode(message.body or b"{}")
            if hand.busy and ask.if_idle:
                answer = RpcAnswer(ok=False, message="busy", state="Busy", in_flight=1)
            elif not hand.drained:
                self.say(hand, "Draining", "Asked")
                answer = RpcAnswer(state="Draining", in_flight=len(hand.beat.in_flight))
                if not hand.busy:
                    self.say(hand, "Stopped", "Drained")
                self.counts["drains"] += 1
        await self.transport.send(message.reply, answer.encode())

    async def on_command(self, message: Message) -> None:
        """`{"busy": true}` for all that are and come; `{"churn": 0.01}` lets that share take another task."""
        ask: dict[str, Any] = orjson.loads(message.body or b"{}")
        if "busy" in ask:
            self.busy = ask["busy"]
            for hand in list(self.hands.values()):
                if self.busy != hand.busy and not hand.drained:
                    self.take(hand) if self.busy else self.give(hand)
        if "churn" in ask:
            alive = [hand for hand in self.hands.values() if hand.busy]
            for hand in random.sample(alive, min(len(alive), round(len(alive) * ask["churn"]))):
                self.take(hand)
        states = collections.Counter(hand.beat.state for hand in self.hands.values())
        counts = {"hands": len(self.hands), **self.counts, **states}
        await self.transport.send(message.reply, orjson.dumps(counts))


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nats", required=True)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--namespace", required=True)
    options = parser.parse_args()
    transport = await Transport.connect(options.nats, "bench hands", timeout=30)
    async with await Api.connect(str(options.kubeconfig)) as api:
        hands = Hands(transport)
        cache = Cache("pods", options.namespace, LABEL_POOL, keep_pod)
        cache.subscribe(hands.on_pod)
        await transport.subscribe(f"mp.rpc.{options.namespace}.>", hands.on_rpc)
        await transport.subscribe(COMMANDS, hands.on_command)
        informer = Informer(api, cache)
        await informer.start()
        print('{"event": "hands ready"}', flush=True)
        await asyncio.gather(hands.run(), informer.run())


if __name__ == "__main__":
    uvloop.run(main())
