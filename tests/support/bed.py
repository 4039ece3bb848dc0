"""The test bed of the conformance suite: one pool, clients and workers in this process, and a broker under them.

Owns what a test of a feature's semantics says: start a worker, submit, read the log, hurt the broker or one party's
connection, wait. It must not know which broker it is: `Ground` is the seam, and the suite runs on each one. Tests
that need processes, signals or SIGKILL are not for here (tests/broker has those).
"""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from millpond import App, Client, TaskHandle
from millpond.transport import Hooks, Stored, Transport
from millpond.worker.runtime import Worker
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.events import Beat, TaskEvent, WorkerEvent
from millpond_api.lifecycle import WorkerState

from tests.support.eventually import NOT_YET

START = 60.0
"""Seconds that a step may take on a shared machine; an idle one takes milliseconds."""
LOOK = 0.02
LEASE = 6.0
"""Seconds. Kept alive every third of it, so a machine that stalls for nearly 4 s gives no task to a second worker."""


class Ground(Protocol):
    """A broker under the bed. A party is the name of a client or a worker: its connections are hurt together."""

    stalls: float
    """Seconds for which the machine may stop amid a step, or in all its steps together: 0 in virtual time."""

    async def connect(self, party: str, *, hooks: Hooks | None = None) -> Transport:
        """A transport of this party."""

    async def open_client(self, party: str, namespace: str, stack: AsyncExitStack) -> Client:
        """A client of this party, closed with the stack."""

    async def make_worker(self, settings: dict[str, Any], app: App) -> Worker:
        """A worker (the party is its name), not running yet."""

    async def ensure_pool(self, queue: QueueConfig) -> None:
        """The streams and consumers that the operator would make."""

    def cut(self, party: str) -> None:
        """End the party's connections; it comes back by itself."""

    def silence(self, party: str) -> None:
        """The party's connections stay open and nothing passes, until `resume`."""

    def resume(self, party: str) -> None: ...

    def refuse(self, party: str) -> None:
        """The party's connections end and no new ones are let in, until `admit`."""

    def admit(self, party: str) -> None: ...

    async def stop_broker(self, *, hard: bool = False) -> None:
        """Only on a ground of its own. `hard`: as SIGKILL does."""

    async def start_broker(self) -> None: ...

    def now(self) -> float:
        """Seconds of the ground's clock."""


@dataclass
class Gate:
    """Handlers wait here until it is open; async and plain ones, in any thread and on any loop."""

    runs: list[str] = field(default_factory=list)
    """What handlers said when they came (`pass_through("task-7")`)."""
    _open: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        self._open.set()

    async def pass_through(self, who: str = "") -> None:
        """For async handlers."""
        self.runs.append(who)
        # An asyncio.Event belongs to one loop; handlers of several workers wait here, each on a loop of its own.
        while not self._open.is_set():  # noqa: ASYNC110
            await asyncio.sleep(LOOK)

    def pass_through_sync(self, who: str = "") -> None:
        """For plain handlers: blocks their thread."""
        self.runs.append(who)
        self._open.wait(START)


@dataclass
class BedWorker:
    """A worker that runs in this process."""

    name: str
    worker: Worker
    task: "asyncio.Task[None]"

    @property
    def state(self) -> str:
        return str(self.worker.board.state)

    async def stop(self, *, hurry: bool = False) -> None:
        """As SIGTERM does; `hurry` is a second SIGTERM. Returns when it has stopped."""
        self.worker.stop()
        if hurry:
            self.worker.stop()
        await asyncio.wait_for(asyncio.shield(self.task), START)


@dataclass
class Bed:
    """A pool with one client; `app` is what workers serve unless they get another one."""

    ground: Ground
    queue: QueueConfig
    client: Client
    stack: AsyncExitStack
    app: App = field(default_factory=App)
    workers: list[BedWorker] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of every worker that is started from now on (names of `millpond.settings.Settings`)."""

    @property
    def transport(self) -> Transport:
        """The client's own."""
        return self.client.transport

    # ---- parties

    async def start_worker(self, name: str = "w1", *, app: App | None = None, **settings: Any) -> BedWorker:
        """A worker with four slots (`concurrency=`…), once it is ready for tasks."""
        worker = await self.spawn_worker(name, app=app, **settings)
        await self.until(lambda: self._is_ready(worker), f"worker {name} ready")
        return worker

    async def spawn_worker(self, name: str = "w1", *, app: App | None = None, **settings: Any) -> BedWorker:
        """The same without waiting."""
        known: dict[str, Any] = {
            "namespace": self.queue.namespace,
            "pool": self.queue.pool,
            "app": "tests:app",
            "worker": name,
            "lease": self.queue.lease,
            "beat": 0.2,
            "http_port": 0,
            "concurrency": 4,
            "classes": self.queue.classes,
        }
        worker = await self.ground.make_worker(known | self.settings | settings, app or self.app)
        found = BedWorker(name, worker, asyncio.create_task(worker.run(), name=f"worker {name}"))
        self.workers.append(found)
        return found

    async def crash(self, worker: BedWorker) -> None:
        """As a node that dies: nothing that it says from now on arrives, and nothing is cleaned up."""
        self.ground.refuse(worker.name)
        self.workers.remove(worker)
        worker.task.cancel()
        await asyncio.wait((worker.task,), timeout=START)

    async def open_client(self, party: str) -> Client:
        """Another client; `ground.cut(party)` ends its connection."""
        return await self.ground.open_client(party, self.queue.namespace, self.stack)

    async def change_pool(self, **changes: Any) -> QueueConfig:
        """Make the pool's stream and consumers anew or other: the fields of QueueConfig. Before workers start."""
        self.queue = replace(self.queue, **changes)
        await self.ground.ensure_pool(self.queue)
        return self.queue

    # ---- words

    async def submit(self, handler: str, *args: Any, **options: Any) -> TaskHandle:
        """Submit to the bed's pool by the bed's client."""
        return await self.client.submit(self.queue.pool, handler, list(args), **options)

    async def call(self, handler: str, *args: Any, **options: Any) -> Any:
        """Submit and await the result."""
        return await (await self.submit(handler, *args, **options)).result(timeout=START)

    async def log(self, task: str | TaskHandle) -> list[TaskEvent]:
        task_id = task if isinstance(task, str) else task.id
        return await self.client.handle(self.queue.pool, task_id).events()

    async def story(self, task: str | TaskHandle) -> list[str]:
        """The task's log as `State(attempt)@worker`."""
        return [f"{event.state}({event.attempt})@{event.worker}" for event in await self.log(task)]

    async def states(self, worker: str) -> list[str]:
        """The transitions of a worker that are stored."""
        subject = subjects.worker_events(self.queue.namespace, self.queue.pool, worker)
        stored = await self.transport.read_log(subjects.STREAM_EVENTS, subject)
        return [WorkerEvent.decode(one.body).state for one in stored]

    async def dead_letters(self) -> list[Stored]:
        """Every dead letter of the pool, oldest first."""
        subject = f"mp.dead.{self.queue.namespace}.{self.queue.pool}.*"
        return [one async for one in self.transport.read_range(subjects.STREAM_DEAD, subject)]

    async def dead_letter(self, name: str) -> Stored:
        """The dead letter of a task, once it is there."""
        subject = subjects.dead(self.queue.namespace, self.queue.pool, name)
        found: Stored = await self.until(
            lambda: self.transport.read_last(subjects.STREAM_DEAD, subject), f"a dead letter {name}"
        )
        return found

    async def depth(self) -> int:
        """Messages in the queue, waiting and in flight."""
        name = subjects.pool_stream(self.queue.namespace, self.queue.pool)
        info: Any = await self.transport.api(f"STREAM.INFO.{name}")
        return int(info["state"]["messages"])

    async def holds(self, count: int) -> None:
        """Wait until so many messages are in the queue: a result is told before its message is acknowledged."""

        async def look() -> bool:
            return await self.depth() == count

        await self.until(look, f"{count} messages in the queue")

    async def is_empty(self) -> None:
        """Wait until nothing is left in the queue."""
        await self.holds(0)

    async def next_beat(self, worker: str = "*") -> Beat:
        """The next heartbeat of a worker."""
        heard: asyncio.Queue[Beat] = asyncio.Queue()

        async def hear(message: Any) -> None:
            heard.put_nowait(Beat.decode(message.body))

        subject = f"mp.beat.{self.queue.namespace}.{self.queue.pool}.{worker}"
        subscription = await self.transport.subscribe(subject, hear, limit=1)
        try:
            return await asyncio.wait_for(heard.get(), START)
        finally:
            await subscription.close()

    def gate(self) -> Gate:
        return Gate()

    async def until(self, probe: Callable[[], Any], what: str = "it", timeout: float = START) -> Any:
        """The first truthy value of `probe` (plain or async), by the ground's clock; AssertionError after `timeout`.

        An assertion in the probe that fails means "not yet", and so does a request without an answer.
        """
        deadline = self.ground.now() + timeout
        while True:
            seen: object
            try:
                found = probe()
                seen = await found if inspect.isawaitable(found) else found
                if seen:
                    return seen
            except NOT_YET as error:
                seen = error
            if self.ground.now() >= deadline:
                raise AssertionError(f"{what} did not become true within {timeout} s; last seen: {seen!r}")
            await asyncio.sleep(LOOK)

    async def close(self) -> None:
        """Stop what still runs, at once."""
        for worker in self.workers:
            self.ground.admit(worker.name)
            worker.worker.stop()
            worker.worker.stop()
        tasks = [worker.task for worker in self.workers]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=START)
            for task in late:
                task.cancel()

    def _is_ready(self, worker: BedWorker) -> bool:
        if worker.task.done():
            worker.task.result()
            raise RuntimeError(f"worker {worker.name} has ended")
        return worker.worker.board.state in (WorkerState.IDLE, WorkerState.BUSY)


@asynccontextmanager
async def open_bed(ground: Ground, queue: QueueConfig) -> AsyncIterator[Bed]:
    """A bed on the ground, with its pool made and everything stopped at the end."""
    await ground.ensure_pool(queue)
    async with AsyncExitStack() as stack:
        client = await ground.open_client("client", queue.namespace, stack)
        bed = Bed(ground, queue, client, stack)
        try:
            yield bed
        finally:
            await bed.close()
