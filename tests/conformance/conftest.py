"""The conformance suite's fixtures: `bed`, a pool with in-process clients and workers, on each broker in turn.

A test takes `bed` and no broker's name: what it claims is claimed for all of them. `own_bed` is the same on a broker of
its own, which the test may stop and start.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from millpond.testing.clock import Clock
from millpond.testing.server import MemoryServer
from millpond_api.broker import QueueConfig

from tests.support.bed import LEASE, Bed, open_bed
from tests.support.memory_ground import MemoryGround
from tests.support.nats import NatsServer
from tests.support.nats_ground import NatsGround


@pytest.fixture(params=["nats", "memory"])
def broker(request: pytest.FixtureRequest) -> str:
    """The broker's name, for the fixtures below."""
    return str(request.param)


@pytest.fixture
async def bed(broker: str, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """A pool `mill` with a short lease in the test's own namespace, on the session's broker."""
    async with _bed(broker, "nats_server", namespace, request) as found:
        yield found


@pytest.fixture
async def own_bed(broker: str, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """The same on a broker that this test may stop (`bed.ground.stop_broker()`)."""
    async with _bed(broker, "own_nats_server", namespace, request) as found:
        yield found


@asynccontextmanager
async def _bed(broker: str, server: str, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    queue = QueueConfig(namespace, "mill", lease=LEASE)
    if broker == "memory":
        with Clock() as clock:
            memory = MemoryServer()
            async with open_bed(MemoryGround(memory, clock), queue) as bed:
                yield bed
            memory.close()
        return
    found: NatsServer = request.getfixturevalue(server)
    ground = NatsGround(found)
    try:
        async with open_bed(ground, queue) as bed:
            yield bed
    finally:
        ground.close()
