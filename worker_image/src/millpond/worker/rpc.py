"""Answers requests on `mp.rpc.…`: one wildcard subscription, on the main loop, whose verbs are added by their owners.

Owns the wire side only: which verb, whether its body can be read, that an answer goes out. What a verb means is its
owner's (`Verbs.add`). Each request is a task of its own, so one that takes its time holds up no other. A request that
cannot be read, or whose owner failed, is answered with ok=false and the reason, because silence would be taken for a
lost worker.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pydantic
import structlog
from millpond_api import subjects
from millpond_api.events import RpcAnswer
from millpond_api.wire import Wire

from millpond.transport import Message, Subscription, Transport

A = TypeVar("A", bound=Wire)


@dataclass
class Verbs:
    """What a worker can be asked. An owner adds its verbs before the worker serves them."""

    _known: dict[str, tuple[type[Wire], Callable[[Any], Awaitable[Wire]]]] = field(default_factory=dict)
    _raw: dict[str, Callable[[Message], Awaitable[Wire]]] = field(default_factory=dict)

    def add(self, verb: str, ask: type[A], answer: Callable[[A], Awaitable[Wire]]) -> None:
        """Requests of `verb` carry `ask` (`Wire` itself: anything, it is not read); what `answer` gives goes back."""
        self._known[verb] = (ask, answer)

    def add_raw(self, verb: str, answer: Callable[[Message], Awaitable[Wire]]) -> None:
        """Requests of `verb` are read by `answer` itself: they carry more than one JSON object."""
        self._raw[verb] = answer

    def names(self) -> list[str]:
        return sorted((*self._known, *self._raw))

    async def dispatch(self, verb: str, message: Message) -> Wire:
        """The answer to one request."""
        if verb in self._raw:
            return await self._raw[verb](message)
        found = self._known.get(verb)
        if found is None:
            known = ", ".join(self.names())
            return RpcAnswer(ok=False, code="UnknownVerb", message=f"unknown verb {verb[:64]!r}: there are {known}")
        ask, answer = found
        try:
            read = Wire() if ask is Wire else ask.decode(message.body or b"{}")
        except pydantic.ValidationError as error:
            return RpcAnswer(ok=False, message=f"the body of {verb} cannot be read: {error.errors()[0]['msg']}")
        return await answer(read)


async def serve_rpc(transport: Transport, base: tuple[str, str, str], verbs: Verbs) -> Subscription:
    """Serve every verb of the worker `base` (namespace, pool, worker)."""
    under_way: set[asyncio.Task[None]] = set()

    async def on_request(message: Message) -> None:
        task = asyncio.create_task(_answer(transport, verbs, message))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    return await transport.subscribe(subjects.rpc(*base, "*"), on_request)


async def _answer(transport: Transport, verbs: Verbs, message: Message) -> None:
    verb = message.subject.rpartition(".")[2]
    try:
        answer = await verbs.dispatch(verb, message)
    # A mistake of ours in one verb: whoever asked hears of it, and everybody else is still served.
    except Exception as error:
        structlog.get_logger("millpond.worker").exception("a request could not be answered", verb=verb)
        answer = RpcAnswer(ok=False, message=f"{verb} failed in the worker: {type(error).__name__}: {error}")
    if message.reply:
        await transport.send(message.reply, answer.encode())
