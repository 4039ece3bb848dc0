"""What the operator tells the workers of a pool, read and heard by a worker outside the cluster.

Owns a connection of its own, from before the worker starts until after it has ended: the wait for a pool that works,
the look for another worker of the same name, and the watch that ends the worker when its settings have changed, the
pool is gone, or an older worker of its name turns up. It starts no worker and decides nothing about tasks. It survives
a broker that is away, an operator that has told nothing yet (it says so once and waits), and messages of a newer one.
"""

import asyncio
import enum
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pydantic
import structlog
from millpond_api import subjects
from millpond_api.events import Beat
from millpond_api.remote import PoolSettings

from millpond.access import redact_url
from millpond.pausing import happens
from millpond.transport import Hooks, Message, StreamMissing, Transport, TransportError, Unconfirmed
from millpond.worker.joining import differs

CONNECT_TRY = 10.0
"""Seconds for one try to connect, after which it is said that there was no answer."""
LOOK_EVERY = 5.0
"""Seconds between two looks for settings: they are heard at once, unless they came while the connection was away."""
PING_TIMEOUT = 3.0


class NameTaken(Exception):
    """Another worker of the pool has this name; the text says what to do."""


class End(enum.Enum):
    """Why the watch ended a worker."""

    NONE = "none"
    AGAIN = "again"  # begin anew: other settings, or wait for the pool
    TAKEN = "taken"  # its name is an older worker's


@dataclass
class Told:
    """`connect`, `await_open`, `check_name`, then `watch` beside the worker; `end` says afterwards why it ended."""

    where: tuple[str, str, str]
    transport: Transport
    end: End = End.NONE
    why: str = ""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _said: str = ""
    _log: Any = field(default_factory=lambda: structlog.get_logger("millpond.worker"))

    @classmethod
    async def connect(cls, url: str, where: tuple[str, str, str]) -> "Told":
        """Connected, however long it takes; AccessRefused when NATS does not let these credentials in."""
        hooks, log = Hooks(), structlog.get_logger("millpond.worker")
        while True:
            try:
                transport = await Transport.connect(
                    url, f"millpond {where[2]} settings", hooks=hooks, timeout=CONNECT_TRY
                )
            except Unconfirmed as error:
                log.warning("waiting for NATS", url=redact_url(url), why=str(error))
                continue
            told = cls(where, transport)
            hooks.reconnected = told._news.set
            hooks.error = told._on_error
            await transport.subscribe(subjects.settings(*where[:2]), told._on_settings)
            return told

    async def read(self) -> PoolSettings | None:
        """What the pool's workers are told; None when nothing is known (which is then said)."""
        namespace, pool, _ = self.where
        subject = subjects.settings(namespace, pool)
        try:
            stored = await self.transport.read_last(subjects.STREAM_SETTINGS, subject)
            if stored:
                return PoolSettings.decode(stored.body)
            self._say(f"there is no pool {pool} in namespace {namespace} (or its operator has not seen it yet)")
        except StreamMissing:
            self._say("NATS has nothing of Millpond: does an operator run beside it, as new as this SDK?")
        except pydantic.ValidationError as error:
            self._say(f"what the operator told can't be read: update millpond here ({error.errors()[0]['msg']})")
        except TransportError as error:
            self._say(f"NATS does not answer ({error}): may this user read the settings of pool {pool}?")
        return None

    async def await_open(self) -> PoolSettings:
        """The pool's settings, once there is such a pool and it works."""
        while True:
            self._news.clear()
            found = await self.read()
            if found and found.open:
                return found
            if found:
                self._say(_closed(found))
            await happens(self._news, LOOK_EVERY)

    async def check_name(self) -> None:
        """NameTaken when a worker of this name answers, or is there and does not."""
        _, pool, name = self.where
        try:
            await self.transport.request(subjects.rpc(*self.where, "ping"), timeout=PING_TIMEOUT)
        except StreamMissing:
            return  # nobody listens there
        except TransportError:
            raise NameTaken(f"pool {pool} may have a worker {name} that does not answer: {_ADVICE}") from None
        raise NameTaken(f"pool {pool} has a worker {name} already: {_ADVICE}")

    async def watch(self, told: PoolSettings, own: Mapping[str, str], leave: "Leave") -> None:
        """For ever: have the worker leave when it must not go on as it is."""

        async def on_beat(message: Message) -> None:
            with suppress(pydantic.ValidationError):
                if leave.is_younger(Beat.decode(message.body)):
                    await self._end(
                        leave, End.TAKEN, f"pool {self.where[1]} has an older worker of this name: {_ADVICE}"
                    )

        await self.transport.subscribe(subjects.beat(*self.where), on_beat)
        while True:
            self._news.clear()
            found = await self.read()
            if found and (why := _out_of_date(told, found, own)):
                await self._end(leave, End.AGAIN, why)
            await happens(self._news, LOOK_EVERY)

    async def _end(self, leave: "Leave", end: End, why: str) -> None:
        if self.end is End.NONE:
            self.end, self.why = end, why
            self._log.warning("leaving the pool", why=why)
            await leave.go(why)

    async def _on_settings(self, message: Message) -> None:
        self._news.set()

    def _on_error(self, error: Exception) -> None:
        self._say(f"trouble with NATS: {error}")

    def _say(self, text: str) -> None:
        """Once, until something else is to be said."""
        if text != self._said:
            self._said = text
            self._log.warning("waiting for the pool", why=text)


@dataclass(frozen=True)
class Leave:
    """How a worker is told to leave, and whether a heartbeat under its name is that of an older one."""

    go: Callable[[str], Any]
    is_younger: Callable[[Beat], bool]


_ADVICE = "give --name another name (or end that worker first)"


def _closed(now: PoolSettings) -> str:
    return "the pool was deleted" if now.deleted else f"the pool is paused: {now.paused}"


def _out_of_date(told: PoolSettings, now: PoolSettings, own: Mapping[str, str]) -> str:
    """Why a worker with the settings `told` must not go on; empty when it may."""
    if not now.open:
        return _closed(now)
    names = differs(told, now, own)
    return f"the pool's settings changed: {', '.join(names)}" if names else ""
