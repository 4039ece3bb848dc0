"""A real nats-server under the test bed; each party reaches it through a proxy of its own.

Owns the proxies. Workers run in this process with their real threads, on the real clock.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from millpond import App, Client
from millpond.settings import Settings
from millpond.transport import Hooks, Transport
from millpond.worker.runtime import Worker
from millpond_api.broker import QueueConfig

from tests.support.bed import START
from tests.support.nats import NatsServer, ensure_pool
from tests.support.proxy import Proxy


@dataclass
class NatsGround:
    """`tests.support.bed.Ground` on a server process."""

    server: NatsServer
    _proxies: dict[str, Proxy] = field(default_factory=dict)
    stalls: float = START

    async def _url(self, party: str) -> str:
        if party not in self._proxies:
            self._proxies[party] = await Proxy(self.server.port).start()
        return f"nats://127.0.0.1:{self._proxies[party].port}"

    async def connect(self, party: str, *, hooks: Hooks | None = None) -> Transport:
        return await Transport.connect(await self._url(party), party, hooks=hooks)

    async def open_client(self, party: str, namespace: str, stack: AsyncExitStack) -> Client:
        return await stack.enter_async_context(Client.connect(await self._url(party), namespace=namespace))

    async def make_worker(self, settings: dict[str, Any], app: App) -> Worker:
        return Worker(Settings(nats_url=await self._url(settings["worker"]), **settings), app)

    async def ensure_pool(self, queue: QueueConfig) -> None:
        await ensure_pool(self.server.url, queue)

    def cut(self, party: str) -> None:
        self._proxies[party].cut()

    def silence(self, party: str) -> None:
        self._proxies[party].silence()

    def resume(self, party: str) -> None:
        self._proxies[party].resume()

    def refuse(self, party: str) -> None:
        self._proxies[party].refuse()

    def admit(self, party: str) -> None:
        self._proxies[party].admit()

    async def stop_broker(self, *, hard: bool = False) -> None:
        await asyncio.to_thread(self.server.kill9 if hard else self.server.stop)

    async def start_broker(self) -> None:
        await asyncio.to_thread(self.server.start)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()
