"""The handlers of an app by name: what may be registered, and how each one is called.

Owns the checks at registration, so that a wrong handler fails at import with a sentence and not at its first task.
It runs nothing.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack, get_args

from millpond_api.leases import RESERVED
from millpond_api.limits import Places, Rate, parse_rate
from millpond_api.retry import RetryPolicy
from millpond_api.subjects import check_handler

from millpond.context import Context
from millpond.spans import Span, read_limit

Isolation = Literal["inline", "thread", "process"]
ISOLATIONS = ("inline", "thread", "process")


class HandlerOptions(TypedDict, total=False):
    """How a handler is run: the keywords of `app.task`, each of them optional.

    The one list of them: a new option is a line here, a field of `Handler` and, where it can be wrong, a check below.
    """

    retry: RetryPolicy | None
    """Overrides the pool's policy; a task's own overrides both."""
    timeout: Span | None
    """Seconds after which an attempt is ended by force and fails with HardTimeout. A task's own comes first."""
    soft_timeout: Span | None
    """Seconds after which SoftTimeout is raised in the handler. A task's own comes first."""
    version: str
    """Shown in the catalogue, for people and for who submits: the handler's own version, not the app's."""
    isolation: Isolation | None
    """Where it runs: inline (async only), thread or process."""
    result_ttl: Span | None
    """Seconds that its results are kept in the object store (those that are too large for an event)."""
    rate: str | Rate | None
    """Its starts in the whole pool, such as "10/s"."""
    concurrency: int | Places | None
    """How many of its tasks run at once in the whole pool: of each `key`, or of all if they are submitted without."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function. `wants_context`: its first parameter gets the attempt's `Context`."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    wants_context: bool
    retry: RetryPolicy | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    isolation: Isolation | None = None
    rate: Rate | None = None
    concurrency: Places | None = None
    version: str = ""
    result_ttl: float | None = None


@dataclass
class LeaseHooks:
    """What runs for each lease: `opened` before its first call, `closed` (in reverse order) after its last one."""

    opened: list[Handler] = field(default_factory=list)
    closed: list[Handler] = field(default_factory=list)


@dataclass
class Registry:
    """Handlers by name. Handlers may be added while workers run (from any thread): `listeners` are called then."""

    _handlers: dict[str, Handler] = field(default_factory=dict)
    listeners: list[Callable[[], None]] = field(default_factory=list)

    def add(self, handler: Handler) -> None:
        """Register; ValueError when the name is taken, because one of the two would never run."""
        known = self._handlers.get(handler.name)
        if known is not None:
            raise ValueError(
                f"two handlers are named {handler.name!r} ({_where(known.function)} and {_where(handler.function)}): "
                "rename one of them"
            )
        self._handlers[handler.name] = handler
        for listener in self.listeners:
            listener()

    def get(self, name: str) -> Handler | None:
        return self._handlers.get(name)

    def names(self) -> list[str]:
        return sorted(self._handlers)

    def __iter__(self) -> Iterator[Handler]:
        return iter(tuple(self._handlers.values()))

    def __len__(self) -> int:
        return len(self._handlers)


def make_handler(name: str, function: Callable[..., Any], **options: Unpack[HandlerOptions]) -> Handler:
    """The handler of `function`; TypeError or ValueError when it could not run as written."""
    if check_handler(name).startswith(RESERVED):
        raise ValueError(f"handler {name!r}: names that begin with {RESERVED!r} are Millpond's own: choose another")
    return read_handler(name, function, **options)


def read_handler(name: str, function: Callable[..., Any], **options: Unpack[HandlerOptions]) -> Handler:
    """The same for any name."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"handler {name!r} is a generator: return the result (a list, say) instead of yielding it")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # the coroutine of a callable object, not callability
    )
    _check_retry(name, options)
    _check_isolation(name, options.get("isolation"), is_async=is_async)
    read: dict[str, Any] = {**options, "rate": _read_rate(name, options), "concurrency": _read_places(name, options)}
    for what in ("timeout", "soft_timeout", "result_ttl"):
        read[what] = read_limit(read.get(what), f"handler {name!r}: {what}")
    return Handler(name, function, is_async, _wants_context(name, function), **read)


def _check_retry(name: str, options: HandlerOptions) -> None:
    retry = options.get("retry")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"handler {name!r}: retry must be a policy, such as RetryPolicy(max_attempts=3), not {retry!r}")


def _read_rate(name: str, options: HandlerOptions) -> Rate | None:
    rate = options.get("rate")
    if not isinstance(rate, str):
        return rate
    try:
        return parse_rate(rate)
    except ValueError as error:
        raise ValueError(f"handler {name!r}: rate {error}") from None


def _read_places(name: str, options: HandlerOptions) -> Places | None:
    places = options.get("concurrency")
    if places is None or isinstance(places, Places):
        return places
    if places < 1:
        raise ValueError(f"handler {name!r}: concurrency must be at least 1, not {places!r}")
    return Places(limit=places)


def _check_isolation(name: str, isolation: str | None, *, is_async: bool) -> None:
    if isolation is not None and isolation not in ISOLATIONS:
        raise ValueError(f"handler {name!r}: isolation {isolation!r} is none of {', '.join(ISOLATIONS)}")
    if isolation == "inline" and not is_async:
        raise TypeError(
            f"handler {name!r} is a plain function: inline it would hold up every async handler of the worker; "
            'write `async def`, or isolation="thread" or "process"'
        )


def _wants_context(name: str, function: Callable[..., Any]) -> bool:
    """Whether the first parameter is named `ctx` or annotated as `Context` (as a class or as text).

    TypeError when another one is annotated so: nobody would fill it, and each call would be refused.
    """
    signature = read_signature(function)
    parameters = list(signature.parameters.values()) if signature else []
    wants = bool(parameters) and _is_filled(parameters[0])
    late = next((one.name for one in parameters[wants:] if _is_context(one.annotation)), None)
    if late is not None:
        raise TypeError(f"handler {name!r}: its context {late!r} is not its first parameter: put it first")
    return wants


def _is_filled(first: inspect.Parameter) -> bool:
    by_place = first.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return by_place and (first.name == "ctx" or _is_context(first.annotation))


def _is_context(annotation: Any) -> bool:
    """`Context`, `Context | None`, or one of them as text, with or without its module."""
    if isinstance(annotation, str):
        return any(one.strip().rpartition(".")[2] == Context.__name__ for one in annotation.split("|"))
    return annotation is Context or Context in get_args(annotation)


def read_signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """The function's signature; None for one written in C that does not tell it."""
    try:
        return inspect.signature(function)
    except ValueError:
        return None


def _where(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
