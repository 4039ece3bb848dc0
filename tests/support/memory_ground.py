"""The in-memory broker of `millpond.testing` under the test bed, in virtual time."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from millpond import App, Client
from millpond.settings import Settings
from millpond.testing.clock import Clock
from millpond.testing.server import MemoryServer, ensure_pool
from millpond.transport import Hooks, Transport
from millpond.worker.hosts import LoopHost, Place
from millpond.worker.runtime import Worker
from millpond_api.broker import QueueConfig


@dataclass
class MemoryGround:
    """`tests.support.bed.Ground` without a process."""

    server: MemoryServer
    clock: Clock
    stalls: float = 0.0

    async def connect(self, party: str, *, hooks: Hooks | None = None) -> Transport:
        return await Transport.connect(self.server.url(party), party, hooks=hooks)

    async def open_client(self, party: str, namespace: str, stack: AsyncExitStack) -> Client:
        return await stack.enter_async_context(Client.connect(self.server.url(party), namespace=namespace))

    async def make_worker(self, settings: dict[str, Any], app: App) -> Worker:
        place = Place(LoopHost, self.clock.outside)
        return Worker(Settings(nats_url=self.server.url(settings["worker"]), **settings), app, place)

    async def ensure_pool(self, queue: QueueConfig) -> None:
        transport = await self.connect("operator")
        await ensure_pool(transport, queue)
        await transport.close()

    def cut(self, party: str) -> None:
        self.server.cut(party)

    def silence(self, party: str) -> None:
        self.server.silence(party)

    def resume(self, party: str) -> None:
        self.server.resume(party)

    def refuse(self, party: str) -> None:
        self.server.refuse(party)

    def admit(self, party: str) -> None:
        self.server.admit(party)

    async def stop_broker(self, *, hard: bool = False) -> None:
        self.server.stop(hard=hard)
        await asyncio.sleep(0)

    async def start_broker(self) -> None:
        self.server.start()

    def now(self) -> float:
        return self.clock.time()
