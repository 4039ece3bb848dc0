"""The synchronous client itself: made at once, connected when it is first used, in each process by itself.

Owns the connection and how it is found again after a fork; the calls are those of the asynchronous client.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, Unpack

from millpond_api.catalogue import HandlerCard

from millpond import client as asynchronous
from millpond.bridge import Bridge, get_bridge, tell_of_forks
from millpond.checkout import Wish
from millpond.client import ClientHabits
from millpond.errors import NotConnected
from millpond.gathering import IN_FLIGHT
from millpond.submission import Options
from millpond.sync.handles import DeadLetters, LeasedWorker, TaskHandle


class _Link:
    """The asynchronous client behind a synchronous one, in one process."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.stack = contextlib.AsyncExitStack()
        self.client: asynchronous.Client | None = None

    async def close(self) -> None:
        await self.stack.aclose()


class Client:
    """A connection to the pools of one namespace, made when it is first used. Close it, or use it in a `with`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        timeout: float | None = 30.0,
        **habits: Unpack[ClientHabits],
    ) -> None:
        """As `millpond.Client.connect`: NotConnected, on first use, after `timeout` seconds without a server."""
        self._settings = (url, namespace, timeout, habits)
        self._lock = threading.Lock()
        self._link: _Link | None = None
        self._closed = False
        tell_of_forks(self)

    def __enter__(self) -> Self:
        self.connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Handles made before say NotConnected from then on."""
        self._closed = True
        link, self._link = self._link, None
        if link is not None and link.bridge is get_bridge():
            link.bridge.forget(link)
            link.bridge.run(link.close())

    def submit(
        self,
        pool: str,
        handler: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        **options: Unpack[Options],
    ) -> TaskHandle:
        """As `millpond.Client.submit`."""
        client, bridge = self.connected()
        handle = bridge.run(client.submit(pool, handler, args, kwargs, task_id=task_id, **options))
        return TaskHandle(self, handle.pool, handle.id)

    def submit_many(
        self,
        pool: str,
        handler: str,
        many: Iterable[Sequence[Any]],
        *,
        task_ids: Iterable[str] | None = None,
        **options: Unpack[Options],
    ) -> list[TaskHandle]:
        """As `millpond.Client.submit_many`."""
        # Read here: what an iterator of the caller's does belongs into his thread.
        rows, ids = list(many), None if task_ids is None else list(task_ids)
        client, bridge = self.connected()
        handles = bridge.run(client.submit_many(pool, handler, rows, task_ids=ids, **options))
        return [TaskHandle(self, handle.pool, handle.id) for handle in handles]

    @contextlib.contextmanager
    def checkout(self, pool: str, **wish: Unpack[Wish]) -> Iterator[LeasedWorker]:
        """As `millpond.Client.checkout`: `with client.checkout("pool") as worker: worker.call(…)`.

        It is renewed by the bridge's thread, so the caller's own may block as long as it likes.
        """
        client, bridge = self.connected()
        stack = contextlib.AsyncExitStack()
        worker = bridge.run(stack.enter_async_context(client.checkout(pool, **wish)))
        try:
            yield LeasedWorker(worker, bridge)
        finally:
            bridge.run(stack.aclose())

    def map(
        self, pool: str, handler: str, items: Iterable[Any], *, in_flight: int = IN_FLIGHT, **options: Unpack[Options]
    ) -> Iterator[Any]:
        """As `millpond.Client.map`; `items` is read in the caller's thread."""
        client, bridge = self.connected()
        window, ahead = client.window((pool, handler), options, in_flight), iter(items)
        try:
            while True:
                if window.wanted:
                    bridge.run(window.add(list(islice(ahead, window.wanted))))
                if not window.waiting:
                    return
                yield bridge.run(window.next())
        finally:
            bridge.run(_call(window.close))

    def handle(self, pool: str, task_id: str) -> TaskHandle:
        """The handle of a task that was submitted before, here or elsewhere."""
        return TaskHandle(self, pool, task_id)

    def handlers(self, pool: str) -> dict[str, HandlerCard]:
        """As `millpond.Client.handlers`."""
        client, bridge = self.connected()
        return bridge.run(client.handlers(pool))

    def dead(self, pool: str = "") -> DeadLetters:
        """The dead letters of a pool, or of all pools of the namespace: to list, redrive and purge."""
        return DeadLetters(self, pool)

    def after_fork(self) -> object:
        """See `bridge.Forkable`: the connection is the parent's, and so may be whoever held the lock."""
        link, self._link, self._lock = self._link, None, threading.Lock()
        return link

    def connected(self) -> tuple[asynchronous.Client, Bridge]:
        """The client of this process."""
        if self._closed:
            raise NotConnected("this client is closed: make another one")
        bridge = get_bridge()
        link = self._link
        if link is not None and link.bridge is bridge and link.client is not None:
            return link.client, bridge
        return self._connect(bridge)

    def _connect(self, bridge: Bridge) -> tuple[asynchronous.Client, Bridge]:
        with self._lock:
            link = self._link
            if link is None or link.client is None:
                link = self._link = _Link(bridge)
                url, namespace, timeout, habits = self._settings
                opening = asynchronous.Client.connect(url, namespace=namespace, timeout=timeout, **habits)
                link.client = bridge.run(link.stack.enter_async_context(opening))
                bridge.on_exit(link, link.close)
            return link.client, bridge


async def _call(function: Any) -> None:
    function()
