"""The state of a pool's limits on the broker: read and swapped by compare-and-set, with the time of its server.

Owns the subjects of one pool in MILLPOND_LIMITS and a lower bound of the server's time. It decides nothing. A message
that nobody changes any more goes by its TTL; an expired state reads as the empty one, which is what it means.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pydantic
import structlog
from millpond_api import subjects
from millpond_api.wire import Wire

from millpond.transport import Publish, Transport

log = structlog.get_logger("millpond.worker")
T = TypeVar("T", bound=Wire)

RESYNC = 30.0
"""Seconds for which a reading of the server's clock is good: two clocks drift apart by some 0.1 ms in that time."""


@dataclass
class ServerClock:
    """The time of the server that stamps limits: a reservation's meaning must not depend on whose clock is right.

    After Cristian (1989): the server read it between our asking and its answer. `now` is the earliest that it can be,
    `latest` the latest; between them lies one round trip.
    """

    transport: Transport
    _earliest: float = 0.0
    _latest: float = 0.0
    _read_at: float = float("-inf")

    async def sync(self) -> None:
        """Read it again if the last reading is old."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        if asked - self._read_at < RESYNC:
            return
        server = await self.transport.read_clock(subjects.STREAM_LIMITS)
        answered = clock()
        self._earliest, self._latest, self._read_at = server - answered, server - asked, answered

    @property
    def known(self) -> bool:
        return self._read_at > float("-inf")

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self._earliest

    def latest(self) -> float:
        return asyncio.get_running_loop().time() + self._latest


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A limit's state: its sequence (0: none), when the server stored it (epoch seconds), and what it says."""

    sequence: int = 0
    stored: float = 0.0
    state: T | None = None


@dataclass
class LimitStore:
    """The limits of one pool."""

    transport: Transport
    namespace: str
    pool: str
    clock: ServerClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = ServerClock(self.transport)

    async def read(self, kind: str, name: str, shape: type[T]) -> "Found[T]":
        """The last state. What is none counts as empty, and the next swap replaces it: it must not stop a pool."""
        stored = await self.transport.read_last(subjects.STREAM_LIMITS, self._subject(kind, name))
        if stored is None:
            return Found()
        try:
            return Found(stored.sequence, stored.stored, shape.decode(stored.body))
        except pydantic.ValidationError as error:
            log.error("a limit's state cannot be read; it begins anew", kind=kind, name=name, why=str(error))
            return Found(stored.sequence, stored.stored)

    async def swap(self, kind: str, name: str, state: Wire, expected: int, ttl: float) -> int:
        """Store the state on top of sequence `expected`; Fenced when somebody else was there first."""
        options = Publish(expected=expected, ttl=ttl)
        return await self.transport.publish_stored(self._subject(kind, name), state.encode(), options=options)

    def _subject(self, kind: str, name: str) -> str:
        return subjects.limit(self.namespace, self.pool, kind, name)
