"""What a synchronous client hands out: handles of tasks, dead letters, several tasks at once.

Owns the blocking forms of the asynchronous methods, and nothing of what they do.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

from millpond_api.events import LossNote, TaskEvent

from millpond import client as asynchronous
from millpond import gathering
from millpond.bridge import Bridge, get_bridge
from millpond.dead import DeadLetters as AsyncDead
from millpond.dead import Redriven
from millpond.handle import CancelMode, TaskStatus
from millpond.handle import TaskHandle as AsyncHandle
from millpond.leased import LeasedWorker as AsyncLeasedWorker
from millpond.letters import EVERY, DeadLetter, LetterFilter
from millpond.progress import Progress
from millpond.spans import Span

T = TypeVar("T")
_END = object()


class Linked(Protocol):
    """Whoever has the asynchronous client of this process, and the way to it."""

    def connected(self) -> tuple[asynchronous.Client, Bridge]: ...


class DeadLetters:
    """The methods of `millpond.Client.dead(pool)`, blocking."""

    def __init__(self, client: Linked, pool: str) -> None:
        self._client, self._pool = client, pool

    def list(self, which: LetterFilter = EVERY) -> Iterator[DeadLetter]:
        """The letters that `which` means, oldest first."""
        dead, bridge = self._asynchronous()
        return _iterate(bridge, dead.list(which))

    def read(self, task: str) -> DeadLetter:
        """The last letter of a task; DeadLetterNotFound when it has none."""
        dead, bridge = self._asynchronous()
        return bridge.run(dead.read(task))

    def redrive(self, which: LetterFilter = EVERY) -> tuple[Redriven, ...]:
        """Put them back into their pools' queues; QueueFull when one takes no more."""
        dead, bridge = self._asynchronous()
        return bridge.run(dead.redrive(which))

    def purge(self, which: LetterFilter = EVERY) -> tuple[DeadLetter, ...]:
        """Throw them away for good."""
        dead, bridge = self._asynchronous()
        return bridge.run(dead.purge(which))

    def losses(self, letter: DeadLetter) -> LossNote | None:
        """How the workers ended that a quarantined task took with it."""
        dead, bridge = self._asynchronous()
        return bridge.run(dead.losses(letter))

    def _asynchronous(self) -> tuple[AsyncDead, Bridge]:
        client, bridge = self._client.connected()
        return client.dead(self._pool), bridge


class TaskHandle:
    """One task of a pool. The methods of `millpond.TaskHandle`, blocking."""

    def __init__(self, client: Linked, pool: str, task_id: str) -> None:
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

    def signal(self, name: str, payload: Any = None, *, id: str | None = None) -> None:
        """Send the task a message; when this returns, it is stored."""
        handle, bridge = self.asynchronous()
        bridge.run(handle.signal(name, payload, id=id))

    def query(self, name: str, *args: Any, timeout: float = 5.0) -> Any:
        """What the running handler answers by `@ctx.query`."""
        handle, bridge = self.asynchronous()
        return bridge.run(handle.query(name, *args, timeout=timeout))

    def cancel(self, reason: str = "", *, mode: CancelMode = "cooperative") -> bool:
        """Cancel the task unless it has ended; whether Cancelled is its outcome."""
        handle, bridge = self.asynchronous()
        return bridge.run(handle.cancel(reason, mode=mode))

    def progress(self) -> Iterator[Progress]:
        """As `millpond.TaskHandle.progress`."""
        handle, bridge = self.asynchronous()
        return _iterate(bridge, handle.progress())

    def asynchronous(self) -> tuple[AsyncHandle, Bridge]:
        """The handle behind this one, and where it lives."""
        client, bridge = self._client.connected()
        return client.handle(self.pool, self.id), bridge


class LeasedWorker:
    """A slot of a worker that this client holds. The methods of `millpond.LeasedWorker`, blocking."""

    def __init__(self, inner: AsyncLeasedWorker, bridge: Bridge) -> None:
        self._inner, self._bridge = inner, bridge

    def __repr__(self) -> str:
        return repr(self._inner)

    def __getattr__(self, name: str) -> Any:
        """`id`, `pool`, `worker`, `token`, `owner`, `draining`, `lost`."""
        return getattr(self._inner, name)

    def call(self, handler: str, /, *args: Any, timeout: Span | None = None, **kwargs: Any) -> Any:
        """What the worker's handler returns; CallFailed, CallTimeout, CallRefused or LeaseLost."""
        return self._bridge.run(self._inner.call(handler, *args, timeout=timeout, **kwargs))


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
