"""The clients that handlers get from `ctx.client()`: one for all of the inline loop, one each elsewhere.

Owns those connections: a client belongs to the event loop that made it. They are made when first asked for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from millpond.client import Client
from millpond.worker.calling import Connect


class SharedClient:
    """The one client of all async handlers of a loop, connected when the first one asks."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._namespace = url, namespace
        self._stack = contextlib.AsyncExitStack()
        self._client: asyncio.Task[Client] | None = None

    async def connect(self) -> Client:
        loop = asyncio.get_running_loop()
        known = self._client
        if known is None or known.get_loop() is not loop or (known.done() and known.exception()):
            self._client = known = asyncio.create_task(self._open())
        # Shielded: a handler that is cancelled while it waits must not take the connection from the others.
        return await asyncio.shield(known)

    async def close(self) -> None:
        await self._stack.aclose()

    async def _open(self) -> Client:
        return await self._stack.enter_async_context(Client.connect(self._url, namespace=self._namespace))


@dataclass(frozen=True)
class OwnClient:
    """Clients for handlers that have a loop of their own."""

    url: str
    namespace: str

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Connect]:
        """What connects in this loop; closed at the end if anybody asked."""
        shared = SharedClient(self.url, self.namespace)
        try:
            yield shared.connect
        finally:
            await shared.close()
