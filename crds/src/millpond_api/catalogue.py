"""A pool's catalogue: which handlers its workers have, how they are called, and what a submitter should know. Pure.

Owns the model that a worker announces (one message for each set of handlers, so two versions of an app side by side
have two) and the check of a call's arguments against it. It must not be stricter than the handler: types are not
looked at, and a call that any current version takes is right. What is not known is not refused.
"""

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal

from pydantic import AwareDatetime

from millpond_api.wire import Wire

ANNOUNCE_EVERY = 3600.0
"""Seconds after which a running worker says it again."""
CURRENT_FOR = timedelta(seconds=2 * ANNOUNCE_EVERY)
"""A catalogue that was announced so long before the newest one is an older version's, whose workers are gone."""

ParameterKind = Literal["positional", "either", "args", "keyword", "kwargs"]
_KINDS: dict[str, Any] = {
    "positional": inspect.Parameter.POSITIONAL_ONLY,
    "either": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "args": inspect.Parameter.VAR_POSITIONAL,
    "keyword": inspect.Parameter.KEYWORD_ONLY,
    "kwargs": inspect.Parameter.VAR_KEYWORD,
}
_NAMES: dict[Any, Any] = {kind: name for name, kind in _KINDS.items()}


class Parameter(Wire):
    """One parameter of a handler, without the context. `annotation` and `default` are texts, for people."""

    name: str
    kind: ParameterKind = "either"
    annotation: str = ""
    default: str | None = None


class HandlerCard(Wire):
    """A handler as its pool offers it. `options` are those that it was registered with, by name, as plain JSON."""

    name: str
    version: str = ""
    parameters: tuple[Parameter, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies defaults

    @property
    def text(self) -> str:
        """As it would be written: `resize(url: str, width: int = 800)`."""
        return f"{self.name}{_signature(self.parameters, shown=True)}"


class Catalogue(Wire):
    """The handlers of one version of an app. `at` is when it was announced last."""

    at: AwareDatetime
    worker: str = ""
    handlers: tuple[HandlerCard, ...] = ()

    @property
    def digest(self) -> str:
        """Which set of handlers this is: equal for all workers that offer the same."""
        said = b"\n".join(card.encode() for card in sorted(self.handlers, key=lambda card: card.name))
        return hashlib.sha256(said).hexdigest()[:16]

    def get(self, name: str) -> HandlerCard | None:
        return next((card for card in self.handlers if card.name == name), None)


class _Shown:
    """A default or an annotation in the words of the handler's author."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def make_parameters(signature: inspect.Signature, *, skip: int = 0) -> tuple[Parameter, ...]:
    """The parameters of a function; `skip` leaves out the first (the context, which the worker passes)."""
    return tuple(_make_parameter(one) for one in list(signature.parameters.values())[skip:])


def _make_parameter(one: inspect.Parameter) -> Parameter:
    annotation = "" if one.annotation is one.empty else _annotation(one.annotation)
    default = None if one.default is one.empty else repr(one.default)[:80]
    return Parameter(name=one.name, kind=_NAMES[one.kind], annotation=annotation, default=default)


def _annotation(kind: Any) -> str:
    return (kind if isinstance(kind, str) else inspect.formatannotation(kind))[:120]


@lru_cache(maxsize=1000)
def _signature(parameters: tuple[Parameter, ...], *, shown: bool = False) -> inspect.Signature:
    return inspect.Signature(
        [
            inspect.Parameter(
                one.name,
                _KINDS[one.kind],
                default=inspect.Parameter.empty if one.default is None else _Shown(one.default),
                annotation=_Shown(one.annotation) if shown and one.annotation else inspect.Parameter.empty,
            )
            for one in parameters
        ]
    )


def check_call(card: HandlerCard, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """What is wrong with a call by these arguments, in Python's words; empty when the handler would take it."""
    try:
        _signature(card.parameters).bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return ""


def read_catalogues(bodies: Iterable[bytes]) -> list[Catalogue]:
    """Those that this side can read, with times that can be compared: others are not known, like any other."""
    found = []
    for body in bodies:
        with suppress(ValueError):
            said = Catalogue.decode(body)
            for card in said.handlers:
                _signature(card.parameters)
            found.append(said)
    return found


def choose_current(catalogues: Iterable[Catalogue]) -> list[Catalogue]:
    """The newest catalogue and those that were announced with it: versions side by side; newest first."""
    ordered = sorted(catalogues, key=lambda one: one.at, reverse=True)
    return [one for one in ordered if one.at > ordered[0].at - CURRENT_FOR]


def find_refusal(catalogues: Iterable[Catalogue], handler: str, call: tuple[Sequence[Any], Mapping[str, Any]]) -> str:
    """Why no version of the handler takes the call, with its signature; empty when one does, or none is known."""
    cards = [card for card in (one.get(handler) for one in catalogues) if card]
    refusals = [(why, card) for card in cards if (why := check_call(card, *call))]
    if not cards or len(refusals) < len(cards):
        return ""
    why, card = refusals[0]
    return f"{why}; the handler is {card.text}"
