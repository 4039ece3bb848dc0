"""Pools and worker processes on the real nats-servers of tests/conftest.py."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from millpond_api.broker import QueueConfig

from tests.support.nats import NatsServer, ensure_pool
from tests.support.workers import LEASE, Mill, running_mill


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
