"""The event loop of the synchronous client: one thread for the process, and a new one after a fork.

Owns that thread and the way into it. A forked child (a gunicorn worker with `preload_app`, multiprocessing) has no
threads but its own and shares the parent's sockets, so it must neither use nor close what it inherited: it gets a
bridge of its own, and what the parent made is kept alive and untouched. It must not know what is called through it.
"""

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
CLOSE_TIMEOUT = 5.0
"""Seconds at exit for telling NATS good-bye; a process must not hang because its broker does."""


class Bridge:
    """An event loop on a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closers: dict[int, Callable[[], Awaitable[None]]] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="millpond-sync", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; whatever it raises is raised here, in the caller's frame. Blocks the thread."""
        if _is_async():
            work.close()
            raise RuntimeError(
                "millpond.sync blocks its thread and was called in an event loop's: use millpond.Client there, or "
                "asyncio.to_thread"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise
        # Ctrl-C and the like: what nobody waits for any more must not go on.
        except BaseException:
            future.cancel()
            raise

    def on_exit(self, owner: object, close: Callable[[], Awaitable[None]]) -> None:
        """`close` runs in the loop when the process ends, unless `forget` comes first."""
        self._closers[id(owner)] = close

    def forget(self, owner: object) -> None:
        self._closers.pop(id(owner), None)

    def close_all(self) -> None:
        """Close what is still open, at the end of the process."""

        async def close() -> None:
            closers = list(self._closers.values())
            await asyncio.gather(*(closer() for closer in closers), return_exceptions=True)

        with contextlib.suppress(concurrent.futures.TimeoutError):
            asyncio.run_coroutine_threadsafe(close(), self._loop).result(CLOSE_TIMEOUT)


class Forkable(Protocol):
    """Whoever holds something of a bridge."""

    def after_fork(self) -> object:
        """In a forked child, before anything else runs: let go of what is the parent's, and return it to be kept."""
        ...


class _Process:
    """The bridge of this process, made when first asked for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bridge: Bridge | None = None
        self.users: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self.inherited: list[object] = []
        """What ancestors made: never collected, because closing their selectors would reach into the parent."""

    def after_fork(self) -> None:
        # A lock that another thread held at the fork would stay locked for ever.
        self.lock = threading.Lock()
        if self.bridge is not None:
            self.inherited.append(self.bridge)
            self.bridge = None
        for user in list(self.users):
            self.inherited.append(user.after_fork())


_process = _Process()
os.register_at_fork(after_in_child=_process.after_fork)


def get_bridge() -> Bridge:
    """The process's own bridge; the same object until a fork."""
    with _process.lock:
        if _process.bridge is None:
            _process.bridge = Bridge()
        return _process.bridge


def tell_of_forks(user: Forkable) -> None:
    """`user.after_fork` is called in every child that is forked while `user` lives."""
    _process.users.add(user)


@atexit.register
def _close_at_exit() -> None:
    if _process.bridge is not None:
        _process.bridge.close_all()


def _is_async() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
