"""The ledger: every scaling decision that says something new, in the stream MILLPOND_LEDGER and in the status.

Owns what is written down and its publishing. A record stands alone (`millpond_scaling.records`), so `millpond explain`
and `replay` need nothing else. It never holds up or fails a decision: records wait in a bounded list, are published
without an answer, and are dropped (and counted) while NATS is away.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from millpond_api import subjects
from millpond_scaling import Decision, Memory, Observation, Policy
from millpond_scaling.records import Record, encode

from millpond_operator import metrics
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.ledger import Recorded, decide_entry, is_news, what_of
from millpond_operator.handlers.world import LEDGER_LENGTH, World

log = structlog.get_logger(__name__)

WAITING = 5000
"""Records that may wait to be published: several for each of 1,000 pools."""


@dataclass(frozen=True)
class Made:
    """One decision and all that it was made from. `acted`: it was handed on to be carried out."""

    now: float
    policy: Policy
    seen: Observation
    before: Memory
    decision: Decision
    acted: bool


class Ledger:
    """`note` every decision; `run` publishes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._waiting: deque[tuple[PoolKey, Made]] = deque()
        self._news = asyncio.Event()

    def note(self, key: PoolKey, made: Made) -> None:
        """Write the decision down if it says something new."""
        memory = self.world.memory[key]
        if memory.ledger is None:
            memory.ledger = list(self.world.status_of(key).decisions)
        newest = memory.ledger[0] if memory.ledger else None
        entry = decide_entry(newest, made.policy, made.decision, datetime.fromtimestamp(made.seen.wall, UTC))
        if entry is not None:
            memory.ledger = [entry, *memory.ledger][:LEDGER_LENGTH]
        if is_news(memory.recorded, made.decision, made.seen, made.now):
            memory.recorded = Recorded(what_of(made.decision), made.now)
            self._put(key, made)

    def _put(self, key: PoolKey, made: Made) -> None:
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            metrics.LEDGER_DROPPED.inc()
        self._waiting.append((key, made))
        self._news.set()

    async def run(self) -> None:
        """Publish until cancelled; between two records the loop may do something more urgent."""
        while True:
            if not self._waiting:
                self._news.clear()
                await self._news.wait()
            key, made = self._waiting.popleft()
            body = encode(make_record(key, made))
            if not await self.world.transport.send(subjects.ledger(*key), body):
                metrics.LEDGER_DROPPED.inc()
            await asyncio.sleep(0)


def make_record(key: PoolKey, made: Made) -> Record:
    """The record of a decision, with the wall clock of its observation."""
    at = datetime.fromtimestamp(made.seen.wall, UTC)
    return Record(
        at=at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        now=made.now,
        policy=made.policy,
        seen=made.seen,
        memory=made.before,
        decision=made.decision,
        acted=made.acted,
        namespace=key.namespace,
        pool=key.pool,
    )
