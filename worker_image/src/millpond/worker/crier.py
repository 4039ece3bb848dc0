"""Announces this worker's handlers, and hears what others of the pool announce.

Owns the catalogue's publication: one stored message for each set of handlers, when the worker is ready, when a handler
is registered at run time, and once an hour. It survives an absent broker (it tries again) and an operator that is older
than the stream (then nobody knows the catalogue, which is allowed).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields

import pydantic
import structlog
from millpond_api import subjects
from millpond_api.catalogue import (
    ANNOUNCE_EVERY,
    Catalogue,
    HandlerCard,
    Parameter,
    choose_current,
    make_parameters,
    read_catalogues,
)
from millpond_api.events import utc_now
from pydantic_core import to_jsonable_python

from millpond.pausing import happens
from millpond.registry import Handler, Registry, read_signature
from millpond.transport import Message, Publish, StreamMissing, Transport, TransportError
from millpond.worker.journal import Pause

log = structlog.get_logger("millpond.worker")
_ANYTHING = (Parameter(name="args", kind="args"), Parameter(name="kwargs", kind="kwargs"))
"""Of a function written in C that does not tell its parameters."""
_PLAIN = ("name", "function", "is_async", "wants_context", "version")


class Crier:
    """`start` once connected; `changed` from any thread when a handler has been registered."""

    def __init__(self, where: tuple[str, str, str], handlers: Registry, every: float = ANNOUNCE_EVERY) -> None:
        self._namespace, self._pool, self._worker = where
        self._handlers, self._every = handlers, every
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def listen(self, transport: Transport, hear: Callable[[set[str]], Awaitable[None]]) -> None:
        """`hear(names)` for every announcement of the pool, also our own and those that are current already."""
        self._loop = asyncio.get_running_loop()

        async def on_message(message: Message) -> None:
            try:
                said = Catalogue.decode(message.body)
            except pydantic.ValidationError as error:
                log.warning("a catalogue could not be read", error=str(error))
                return
            await hear({card.name for card in said.handlers})

        subject = subjects.catalogue(self._namespace, self._pool)
        await transport.subscribe(subject, on_message)
        # Not known is allowed: then what is missing here waits until somebody announces it.
        with suppress(TransportError):
            stored = await transport.read_log(subjects.STREAM_CATALOGUE, subject)
            for said in choose_current(read_catalogues(one.body for one in stored)):
                await hear({card.name for card in said.handlers})

    def changed(self) -> None:
        """Say it again, soon."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._news.set)

    async def run(self, transport: Transport) -> None:
        """Announce now, at every change and every so often, for ever."""
        while True:
            self._news.clear()
            await self._announce(transport)
            await happens(self._news, self._every)

    async def _announce(self, transport: Transport) -> None:
        pause, said = Pause(), make_catalogue(self._handlers, self._worker)
        subject = subjects.catalogue(self._namespace, self._pool, said.digest)
        while True:
            try:
                # A thousand workers that start together store it once.
                await transport.publish_stored(subject, said.encode(), options=Publish(msg_id=subject))
                if await transport.read_last(subjects.STREAM_CATALOGUE, subject) is None:
                    # Dropped as a copy of one that a new template has purged within the server's two minutes.
                    await transport.publish_stored(subject, said.encode())
                return
            except StreamMissing:
                log.info("the handlers are not announced: the operator is older than this SDK")
                return
            except TransportError as error:
                log.warning("the handlers could not be announced; trying again", why=str(error))
            await pause.wait()


def make_catalogue(handlers: Registry, worker: str) -> Catalogue:
    """What this worker offers."""
    return Catalogue(at=utc_now(), worker=worker, handlers=tuple(make_card(one) for one in handlers))


def make_card(handler: Handler) -> HandlerCard:
    """The handler as a submitter sees it."""
    signature = read_signature(handler.function)
    parameters = make_parameters(signature, skip=int(handler.wants_context)) if signature else _ANYTHING
    options = {one.name: getattr(handler, one.name) for one in fields(handler) if one.name not in _PLAIN}
    said = {name: to_jsonable_python(value, fallback=str) for name, value in options.items() if value is not None}
    return HandlerCard(name=handler.name, version=handler.version, parameters=parameters, options=said)
