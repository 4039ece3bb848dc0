"""An app: the handlers that a worker of a pool offers, registered by decorators at import.

Owns nothing but the registry; a worker process imports it by `MILLPOND_APP=module:app`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, Unpack

from millpond_api.leases import RESERVED

from millpond.registry import Handler, HandlerOptions, LeaseHooks, Registry, make_handler, read_handler

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
        self.lease_hooks = LeaseHooks()

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

    def lease_opened(self, function: F) -> F:
        """Register what runs when a client has checked out a slot, before its first call: `(ctx)` or `()`.

        `ctx.lease.state` is the place for what calls share, a connection for instance. When it raises, the client's
        checkout fails with LeaseLost, which says why.
        """
        self.lease_hooks.opened.append(_make_hook("lease_opened", function))
        return function

    def lease_closed(self, function: F) -> F:
        """Register what runs when a lease has ended, however it ended (but by the death of the worker's process)."""
        self.lease_hooks.closed.append(_make_hook("lease_closed", function))
        return function


def _make_hook(name: str, function: Callable[..., Any]) -> Handler:
    """In the worker's own process whatever the pool's isolation: it shares objects with calls."""
    handler = read_handler(f"{RESERVED}{name}", function)
    return replace(handler, isolation="inline" if handler.is_async else "thread")
