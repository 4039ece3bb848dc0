"""Real nats-servers for the broker tier: one for the session, and one of its own for each test that hurts it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from millpond_api.broker import QueueConfig

from tests.support.nats import NatsServer, ensure_pool
from tests.support.workers import LEASE, Mill, running_mill


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """The session's server. Do not stop, pause or kill it: take `own_nats_server` for that."""
    server = NatsServer().start()
    yield server
    server.remove()


@pytest.fixture
def own_nats_server() -> Iterator[NatsServer]:
    """A server that this test may kill."""
    server = NatsServer().start()
    yield server
    server.remove()


@pytest.fixture
async def pool(nats_server: NatsServer, namespace: str) -> QueueConfig:
    """A pool named `mill` in the test's own namespace, on the session's server."""
    queue = QueueConfig(namespace, "mill")
    await ensure_pool(nats_server.url, queue)
    return queue


@pytest.fixture
async def mill(nats_server: NatsServer, namespace: str, tmp_path: Path) -> AsyncIterator[Mill]:
    """A pool with a short lease on the session's server, and worker processes in it."""
    async with running_mill(nats_server, QueueConfig(namespace, "mill", lease=LEASE), tmp_path) as found:
        yield found


@pytest.fixture
async def own_mill(own_nats_server: NatsServer, namespace: str, tmp_path: Path) -> AsyncIterator[Mill]:
    """The same on a server that this test may kill."""
    async with running_mill(own_nats_server, QueueConfig(namespace, "mill", lease=LEASE), tmp_path) as found:
        yield found
