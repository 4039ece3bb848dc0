"""One point of the growth curve: a namespace with its pools, a NATS, an operator and the hands, all processes of ours.

Owns what is started and what is asked of the API server; `phases` says what happens. The operator runs as a process of
this machine, so that what it costs can be read from /proc.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from millpond.transport import Publish, Transport, TransportError
from millpond_api import API_VERSION, LABEL_POOL, subjects
from millpond_api.envelope import Envelope
from millpond_operator.cluster.api import Api, ApiUnreachable, path
from millpond_operator.cluster.cache import Body, Cache
from millpond_operator.cluster.informer import Informer
from millpond_operator.cluster.keeping import keep_deployment

from bench.scale.hands import COMMANDS
from tests.support.nats import NatsServer
from tests.support.works import ROOT, Process, Works

IN_FLIGHT = 64
T = TypeVar("T")


def make_pool(name: str, workers: int) -> Body:
    """A pool at zero that may have so many workers, one slot each."""
    scaling = {
        "maxWorkers": workers,
        "target": {"lagPerSlot": 1},
        "idleAfter": "5s",
        "scaleDown": {"stabilization": "1s"},
    }
    spec = {"image": "millpond-worker:none", "app": "census:app", "scaling": scaling, "queue": {"storage": "Memory"}}
    return {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": name}, "spec": spec}


@dataclass
class Site:
    """A namespace under measurement."""

    api: Api
    works: Works
    transport: Transport
    names: list[str]
    operator: Process
    hands: Process
    scaled: dict[str, float] = field(default_factory=dict)
    """When a watch from outside saw each pool's Deployment above zero (monotonic)."""

    @property
    def namespace(self) -> str:
        return self.works.namespace

    async def make_pools(self, workers: int) -> None:
        await each(
            self.names, lambda name: self.api.create("workerpools", self.namespace, make_pool(name, workers)), IN_FLIGHT
        )

    async def watch_deployments(self) -> asyncio.Task[None]:
        """Note when a Deployment is scaled up from zero."""
        cache = Cache("deployments", self.namespace, LABEL_POOL, keep_deployment)

        def on_change(_: Body | None, new: Body | None) -> None:
            if new is not None and new["spec"].get("replicas"):
                self.scaled.setdefault(new["metadata"]["labels"][LABEL_POOL], time.monotonic())

        cache.subscribe(on_change)
        informer = Informer(self.api, cache)
        await informer.start()
        return asyncio.create_task(informer.run())

    async def publish(self, pools: Iterable[str], count: int) -> dict[str, float]:
        """So many tasks into each pool's queue, pool by pool; when the first of each was on its way (monotonic)."""
        began: dict[str, float] = {}

        async def fill(pool: str) -> None:
            began[pool] = time.monotonic()
            for number in range(count):
                await self._publish_one(pool, f"{pool}-{time.time_ns()}-{number}")

        await each(list(pools), fill, IN_FLIGHT)
        return began

    async def _publish_one(self, pool: str, task: str) -> None:
        envelope = Envelope(id=task, handler="census.parse", enqueued=datetime.now(UTC))
        await self.transport.publish_stored(
            subjects.tasks(self.namespace, pool, "default"),
            b'{"args":[]}',
            headers={subjects.HEADER_ENVELOPE: envelope.encode().decode()},
            options=Publish(timeout=30),
        )

    async def finish_tasks(self) -> None:
        """The queues are empty: all tasks are done."""
        streams = [subjects.pool_stream(self.namespace, name) for name in self.names]
        await each(streams, lambda stream: self.transport.api(f"STREAM.PURGE.{stream}", timeout=30), IN_FLIGHT)

    async def ask_hands(self, **command: Any) -> dict[str, int]:
        """Tell the hands what to do; what they count."""
        answer = await self.transport.request(COMMANDS, orjson.dumps(command), timeout=60)
        counts: dict[str, int] = orjson.loads(answer.body)
        return counts

    async def read_statuses(self) -> dict[str, Body]:
        """The status of every pool."""
        bodies = await self.api.read_all("workerpools", self.namespace)
        return {body["metadata"]["name"]: body.get("status") or {} for body in bodies}

    async def read_status(self, pool: str) -> Body:
        body = await self.api.read("workerpools", self.namespace, pool)
        return (body or {}).get("status") or {}

    async def count(self, plural: str) -> int:
        """How many objects of a kind there are."""
        page = await self.api.request("GET", path(plural, self.namespace), limit="1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    async def wait(self, probe: Callable[[], Awaitable[T]], what: str, timeout: float, every: float = 1.0) -> float:
        """Until the probe holds: the seconds that it took; TimeoutError with the last answer otherwise.

        A server that does not answer in time is "not yet": with 1,000 pools on two cores a list may take that long.
        """
        began, found = time.monotonic(), None
        while True:
            with contextlib.suppress(ApiUnreachable, TransportError):
                found = await probe()
            if found:
                return time.monotonic() - began
            if time.monotonic() - began > timeout:
                raise TimeoutError(f"{what} took more than {timeout:.0f} s (last: {found!r})")
            await asyncio.sleep(every)


async def each(things: Iterable[str], work: Callable[[str], Awaitable[object]], at_once: int) -> None:
    """The work for each thing, begun in order, so many at once."""
    gate = asyncio.Semaphore(at_once)

    async def one(thing: str) -> None:
        try:
            await work(thing)
        finally:
            gate.release()

    async with asyncio.TaskGroup() as group:
        for thing in things:
            await gate.acquire()
            group.create_task(one(thing))


def start_hands(works: Works, server: NatsServer) -> Process:
    """The process of `bench.scale.hands`, which says so when it watches."""
    words = ["--nats", server.url, "--kubeconfig", str(works.kube.kubeconfig), "--namespace", works.namespace]
    return works.spawn("hands", "bench.scale.hands", ROOT, {}, words)
