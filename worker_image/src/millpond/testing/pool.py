"""A pool for a test: an in-memory broker, a client and workers in the test's own event loop, in virtual time.

    async with Pool(app) as pool:
        handle = await pool.submit("resize", "cat.png")
        assert await handle.result() == "cat-800.png"

Owns their lives from `async with` to its end. The workers run the same code as in a pod, on the same protocol; only the
connection, the clock and the threads differ (docs/testing.md says what that leaves out). It must not touch a network.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.events import TaskEvent
from millpond_api.lifecycle import WorkerState

from millpond.app import App
from millpond.client import Client
from millpond.handle import TaskHandle
from millpond.settings import Settings
from millpond.testing import crew
from millpond.testing.clock import Clock
from millpond.testing.crew import Crew
from millpond.testing.faults import Faults
from millpond.testing.server import MemoryServer, ensure_pool
from millpond.transport import Stored, Transport
from millpond.worker.hosts import LoopHost, Place
from millpond.worker.runtime import Worker

PATIENCE = 3600.0
"""Virtual seconds that `until` waits: an hour costs a second or two."""
LOOK = 0.05
BEAT = 30.0
"""Seconds between heartbeats: nobody listens, and each costs real time."""


@dataclass(eq=False)
class TestWorker:
    """A worker of the pool."""

    name: str
    worker: Worker
    crew: Crew
    app: App
    task: "asyncio.Task[None]"
    __test__ = False

    @property
    def state(self) -> str:
        return str(self.worker.board.state)

    @property
    def ready(self) -> bool:
        if self.task.done():
            self.task.result()
            raise RuntimeError(f"worker {self.name} has ended")
        return self.worker.board.state in (WorkerState.IDLE, WorkerState.BUSY)

    async def stop(self) -> None:
        """As SIGTERM does: drain, finish within the grace period, give back the rest; until it has stopped."""
        self.worker.stop()
        await asyncio.wait((self.task,))


def make_worker(server: MemoryServer, clock: Clock, app: App, settings: dict[str, Any]) -> tuple[Worker, Crew]:
    """A worker on the server in the clock's time, and the crew that runs it."""
    place = Place(LoopHost, clock.outside, children=False)
    return Worker(Settings(nats_url=server.url(settings["worker"]), **settings), app, place), Crew()


class Pool:
    """A pool named `name` with `workers` workers that serve `app`; `settings` are the workers' (`concurrency=8`, …)."""

    def __init__(
        self, app: App, *, name: str = "pool", workers: int = 1, queue: QueueConfig | None = None, **settings: Any
    ) -> None:
        self.app, self.queue = app, queue or QueueConfig("test", name)
        self._count, self._settings = workers, settings
        self._stack = AsyncExitStack()
        self.workers: dict[str, TestWorker] = {}
        self.clock = Clock()

    async def __aenter__(self) -> Self:
        self._stack.enter_context(self.clock)
        self._stack.callback(crew.install(asyncio.get_running_loop()))
        self.server = MemoryServer()
        self._stack.callback(self.server.close)
        self.faults = Faults(self.server, self.crash)
        self.client: Client = await self._stack.enter_async_context(
            Client.connect(self.server.url("client"), namespace=self.queue.namespace)
        )
        await ensure_pool(self.transport, self.queue)
        self._stack.push_async_callback(self._stop_workers)
        for number in range(self._count):
            await self.start_worker(f"w{number + 1}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def transport(self) -> Transport:
        """The client's."""
        return self.client.transport

    @property
    def stream(self) -> str:
        """The name of the pool's queue at the broker."""
        return subjects.pool_stream(self.queue.namespace, self.queue.pool)

    async def submit(self, handler: str, *args: Any, **options: Any) -> TaskHandle:
        """Submit a task with these arguments; `options` are those of `Client.submit`."""
        return await self.client.submit(self.queue.pool, handler, list(args), **options)

    async def call(self, handler: str, *args: Any, **options: Any) -> Any:
        """Submit and await the result; LookupError when no worker has the handler, because time would pass for ever."""
        names = {name for worker in self.workers.values() for name in worker.app.handlers.names()}
        if names and handler not in names:
            raise LookupError(
                f"no worker of this pool has a handler {handler!r}: there are {', '.join(sorted(names))}; a task that "
                "is to wait for one is submitted with submit()"
            )
        return await (await self.submit(handler, *args, **options)).result()

    async def start_worker(self, name: str, *, app: App | None = None, **settings: Any) -> TestWorker:
        """Another worker, once it is ready for tasks."""
        queue = self.queue
        known: dict[str, Any] = {"namespace": queue.namespace, "pool": queue.pool, "app": "test:app", "worker": name}
        known |= {"lease": queue.lease, "classes": queue.classes, "beat": BEAT, "http_port": 0, "concurrency": 4}
        app = app or self.app
        worker, members = make_worker(self.server, self.clock, app, known | self._settings | settings)
        found = TestWorker(name, worker, members, app, members.start(worker.run(), f"worker {name}"))
        self.workers[name] = found
        await self.until(lambda: found.ready, f"worker {name} ready")
        return found

    def crash(self, worker: str) -> None:
        """As SIGKILL, or a node that dies: nothing that it says from now on arrives, nothing is cleaned up."""
        self.server.refuse(worker)
        self.workers.pop(worker).crew.kill()

    async def log(self, task: str | TaskHandle) -> list[TaskEvent]:
        """The task's events, oldest first."""
        return await self.client.handle(self.queue.pool, task if isinstance(task, str) else task.id).events()

    async def story(self, task: str | TaskHandle) -> list[str]:
        """The same as `State(attempt)@worker`."""
        return [f"{event.state}({event.attempt})@{event.worker}" for event in await self.log(task)]

    async def dead_letters(self) -> list[Stored]:
        """Every dead letter of the pool, oldest first."""
        subject = subjects.dead_all(self.queue.namespace, self.queue.pool)
        return [one async for one in self.transport.read_range(subjects.STREAM_DEAD, subject)]

    async def depth(self) -> int:
        """Messages in the queue, waiting and in flight."""
        info: Any = await self.transport.api(f"STREAM.INFO.{self.stream}")
        return int(info["state"]["messages"])

    async def is_empty(self) -> None:
        """Until nothing is left in the queue."""

        async def look() -> bool:
            return await self.depth() == 0

        await self.until(look, "an empty queue")

    async def until(self, probe: Callable[[], Any], what: str = "it", timeout: float = PATIENCE) -> Any:
        """The first truthy value of `probe` (plain or async); AssertionError after `timeout` virtual seconds."""
        deadline = self.clock.time() + timeout
        while True:
            found = probe()
            seen = await found if asyncio.iscoroutine(found) else found
            if seen:
                return seen
            if self.clock.time() >= deadline:
                raise AssertionError(f"{what} did not become true within {timeout:g} virtual seconds; last: {seen!r}")
            await asyncio.sleep(LOOK)

    async def _stop_workers(self) -> None:
        """Two signals each: what still runs is given back at once."""
        for worker in self.workers.values():
            self.server.admit(worker.name)
            worker.worker.stop()
            worker.worker.stop()
        tasks = [worker.task for worker in self.workers.values()]
        if tasks:
            await asyncio.wait(tasks)
        for worker in self.workers.values():
            worker.crew.kill()
