"""An app: the handlers that a worker of a pool offers, registered by decorators at import.

Owns nothing but the registry; a worker process imports it by `MILLPOND_APP=module:app`.
"""

from collections.abc import Callable
from typing import Any, TypeVar, Unpack

from millpond.registry import HandlerOptions, Registry, make_handler

F = TypeVar("F", bound=Callable[..., Any])


class App:
    """A collection of handlers.

        app = App()

        @app.task("resize")
        async def resize(ctx: Context, url: str, width: int = 800) -> str: ...

    Async handlers share one event loop, plain functions run in threads, as many as the worker has slots; with
    `isolation="process"` a handler runs in a child process. None of them can hold up the worker's own work, so a
    blocked handler loses no task.
    """

    def __init__(self) -> None:
        self.handlers = Registry()

    def task(self, name: str, **options: Unpack[HandlerOptions]) -> Callable[[F], F]:
        """Register a handler under `name`; `options` are those of `registry.HandlerOptions`: retry, timeout and so on.

        TypeError or ValueError when it could not run as written.
        """
        if not isinstance(name, str):
            raise TypeError('write @app.task("name"): the name travels with each task, so it is given, not guessed')

        def register(function: F) -> F:
            self.handlers.add(make_handler(name, function, **options))
            return function

        return register
