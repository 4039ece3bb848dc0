"""The handlers of an app by name: what may be registered, and how each one is called.

Owns the checks at registration, so that a wrong handler fails at import with a sentence and not at its first task.
It runs nothing.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from millpond_api.retry import RetryPolicy
from millpond_api.subjects import check_handler

from millpond.context import Context


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function. `wants_context`: its first parameter gets the attempt's `Context`."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    wants_context: bool
    retry: RetryPolicy | None = None
    timeout: float | None = None


@dataclass
class Registry:
    """Handlers by name."""

    _handlers: dict[str, Handler] = field(default_factory=dict)

    def add(self, handler: Handler) -> None:
        """Register; ValueError when the name is taken, because one of the two would never run."""
        known = self._handlers.get(handler.name)
        if known is not None:
            raise ValueError(
                f"two handlers are named {handler.name!r} ({_where(known.function)} and {_where(handler.function)}): "
                "rename one of them"
            )
        self._handlers[handler.name] = handler

    def get(self, name: str) -> Handler | None:
        return self._handlers.get(name)

    def names(self) -> list[str]:
        return sorted(self._handlers)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)


def make_handler(
    name: str, function: Callable[..., Any], *, retry: RetryPolicy | None = None, timeout: float | None = None
) -> Handler:
    """The handler of `function`; TypeError or ValueError when it could not run as written."""
    check_handler(name)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"handler {name!r} is a generator: return the result (a list, say) instead of yielding it")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # the coroutine of a callable object, not callability
    )
    if timeout is not None and timeout <= 0:
        raise ValueError(f"handler {name!r}: timeout must be more than 0 seconds, not {timeout!r}")
    if timeout is not None and not is_async:
        raise TypeError(
            f"handler {name!r} is a plain function: a thread cannot be stopped, so timeout works for async handlers "
            "only; look at ctx.cancelled and ctx.deadline in the function instead"
        )
    return Handler(name, function, is_async, _wants_context(function), retry, timeout)


def _wants_context(function: Callable[..., Any]) -> bool:
    """Whether the first parameter is named `ctx` or annotated as `Context` (as a class or as text)."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        return False
    first = parameters[0]
    annotation = first.annotation
    if isinstance(annotation, str):
        return first.name == "ctx" or annotation.rpartition(".")[2] == Context.__name__
    return first.name == "ctx" or annotation is Context


def _where(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
