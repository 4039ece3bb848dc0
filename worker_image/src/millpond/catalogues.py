"""What a client knows of the pools' handlers: read once a minute at most, asked again before anything is refused.

Owns the reading and the memory of catalogues; what they mean for a call is `millpond_api.catalogue`'s. A pool that has
announced nothing, an operator without the stream, a broker that does not answer: all of them mean "not known", and
what is not known is submitted, because only the worker is sure.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from millpond_api import subjects
from millpond_api.catalogue import Catalogue, HandlerCard, choose_current, find_refusal, read_catalogues

from millpond.errors import ArgumentsRefused
from millpond.transport import Transport, TransportError

KEPT = 60.0
"""Seconds that what was read is believed. A newer handler is seen later by so much, and never refused for it."""


class Catalogues:
    """The catalogues of the pools of one namespace."""

    def __init__(self, transport: Transport, namespace: str) -> None:
        self._transport, self._namespace = transport, namespace
        self._known: dict[str, tuple[float, list[Catalogue]]] = {}

    async def check(self, pool: str, handler: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """ArgumentsRefused when every current version of the handler would refuse the call."""
        if why := await self.find_refusal(pool, handler, args, kwargs):
            raise ArgumentsRefused(f"{why} (check=False submits it)")

    async def find_refusal(self, pool: str, handler: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Why every current version of the handler would refuse the call; empty when one takes it or none is known."""
        call = (args, kwargs)
        # What is remembered may be older than the pool's newest version.
        if find_refusal(await self.read(pool), handler, call):
            why = find_refusal(await self.read(pool, fresh=True), handler, call)
            return why and f"pool {pool} would refuse this call of {handler!r}: {why}"
        return ""

    async def cards(self, pool: str) -> dict[str, HandlerCard]:
        """The handlers of the pool by name, of the newest version that has each."""
        newest_last = reversed(await self.read(pool, fresh=True))
        return {card.name: card for one in newest_last for card in one.handlers}

    async def read(self, pool: str, *, fresh: bool = False) -> list[Catalogue]:
        """The pool's current catalogues, newest first; empty when nothing is known."""
        known = self._known.get(pool)
        if known and not fresh and time.monotonic() - known[0] < KEPT:
            return known[1]
        found: list[Catalogue] = []
        with suppress(TransportError):
            subject = subjects.catalogue(self._namespace, subjects.check_token(pool, "pool"))
            stored = await self._transport.read_log(subjects.STREAM_CATALOGUE, subject)
            found = read_catalogues(one.body for one in stored)
        current = choose_current(found)
        self._known[pool] = (time.monotonic(), current)
        return current
