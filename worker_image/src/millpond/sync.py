"""The client for code without an event loop: Django, Flask, scripts. The same names as `millpond.Client`, blocking.

    from millpond import sync

    mill = sync.Client("nats://millpond-nats:4222", namespace="default")    # a global, connected when first used

    def view(request):
        task = mill.submit("census", "census.parse", [request.GET["path"]])
        return JsonResponse(task.result(timeout=30))

Owns nothing but the way into the event loop on the process's background thread (`bridge`); every call is one of the
asynchronous client. It may be used from many threads at once, and by a forked child, which connects by itself. It must
not be called in an event loop's thread: that is refused with a sentence.
"""

import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, cast

from millpond_api.events import TaskEvent

from millpond import client as asynchronous
from millpond import gathering
from millpond.bridge import Bridge, get_bridge, tell_of_forks
from millpond.client import ClientHabits
from millpond.errors import NotConnected
from millpond.gathering import IN_FLIGHT
from millpond.handle import TaskHandle as AsyncHandle
from millpond.handle import TaskStatus
from millpond.progress import Progress
from millpond.submission import Options

__all__ = ["Client", "TaskHandle", "as_completed", "gather"]
T = TypeVar("T")
_END = object()


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
        self._connected()
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
    ) -> "TaskHandle":
        """As `millpond.Client.submit`."""
        client, bridge = self._connected()
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
    ) -> list["TaskHandle"]:
        """As `millpond.Client.submit_many`."""
        # Read here: what an iterator of the caller's does belongs into his thread.
        rows, ids = list(many), None if task_ids is None else list(task_ids)
        client, bridge = self._connected()
        handles = bridge.run(client.submit_many(pool, handler, rows, task_ids=ids, **options))
        return [TaskHandle(self, handle.pool, handle.id) for handle in handles]

    def map(
        self, pool: str, handler: str, items: Iterable[Any], *, in_flight: int = IN_FLIGHT, **options: Unpack[Options]
    ) -> Iterator[Any]:
        """As `millpond.Client.map`; `items` is read in the caller's thread."""
        client, bridge = self._connected()
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

    def handle(self, pool: str, task_id: str) -> "TaskHandle":
        """The handle of a task that was submitted before, here or elsewhere."""
        return TaskHandle(self, pool, task_id)

    def after_fork(self) -> object:
        """See `bridge.Forkable`: the connection is the parent's, and so may be whoever held the lock."""
        link, self._link, self._lock = self._link, None, threading.Lock()
        return link

    def _connected(self) -> tuple[asynchronous.Client, Bridge]:
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


class TaskHandle:
    """One task of a pool. The methods of `millpond.TaskHandle`, blocking."""

    def __init__(self, client: Client, pool: str, task_id: str) -> None:
        self._client = client
        self.pool, self.id = pool, task_id

    def __repr__(self) -> str:
        return f"TaskHandle(pool={self.pool!r}, id={self.id!r})"

    def result(self, timeout: float | None = None) -> Any:
        """What the handler returned; TaskFailed, TaskCancelled, TaskExpired or ResultTimeout."""
        handle, bridge = self.asynchronous()
        return bridge.run(handle.result(timeout))

    def wait(self, timeout: float | None = None) -> TaskStatus:
        """How the task ended, once it has."""
        handle, bridge = self.asynchronous()
        return bridge.run(handle.wait(timeout))

    def status(self) -> TaskStatus:
        """The state as the log tells it."""
        handle, bridge = self.asynchronous()
        return bridge.run(handle.status())

    def events(self) -> list[TaskEvent]:
        """The task's transitions, oldest first."""
        handle, bridge = self.asynchronous()
        return bridge.run(handle.events())

    def cancel(self, reason: str = "") -> bool:
        """Cancel the task unless it has ended; whether Cancelled is its outcome."""
        handle, bridge = self.asynchronous()
        return bridge.run(handle.cancel(reason))

    def progress(self) -> Iterator[Progress]:
        """As `millpond.TaskHandle.progress`."""
        handle, bridge = self.asynchronous()
        return _iterate(bridge, handle.progress())

    def asynchronous(self) -> tuple[AsyncHandle, Bridge]:
        """The handle behind this one, and where it lives."""
        client, bridge = self._client._connected()
        return client.handle(self.pool, self.id), bridge


def gather(*handles: TaskHandle, timeout: float | None = None, return_exceptions: bool = False) -> list[Any]:
    """As `millpond.gather`."""
    if not handles:
        return []
    inner = [handle.asynchronous() for handle in handles]
    gathered = gathering.gather(*(one for one, _ in inner), timeout=timeout, return_exceptions=return_exceptions)
    return inner[0][1].run(gathered)


def as_completed(handles: Sequence[TaskHandle], *, timeout: float | None = None) -> Iterator[TaskHandle]:
    """As `millpond.as_completed`."""
    if not handles:
        return
    inner = {id(one): (handle, one) for handle in handles for one in (handle.asynchronous()[0],)}
    ended = gathering.as_completed([one for _, one in inner.values()], timeout=timeout)
    for one in _iterate(get_bridge(), ended):
        yield inner[id(one)][0]


def _iterate(bridge: Bridge, items: AsyncIterator[T]) -> Iterator[T]:
    """An asynchronous iterator's items in this thread."""
    try:
        while True:
            item = bridge.run(_next(items))
            if item is _END:
                return
            yield cast(T, item)
    finally:
        bridge.run(_close(items))


async def _next(items: AsyncIterator[T]) -> object:
    return await anext(items, _END)


async def _close(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()


async def _call(function: Any) -> None:
    function()
