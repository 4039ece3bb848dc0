"""The conformance suite's fixtures: `bed`, a pool with in-process clients and workers, on each broker in turn.

A test takes `bed` and no broker's name: what it claims is claimed for all of them. `own_bed` is the same on a broker of
its own, which the test may stop and start.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from millpond_api.broker import QueueConfig

from tests.support.bed import LEASE, Bed, open_bed
from tests.support.nats import NatsServer
from tests.support.nats_ground import NatsGround

BROKERS = ("nats",)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    """The broker's name, for the fixtures below."""
    return str(request.param)


@pytest.fixture
async def bed(broker: str, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """A pool `mill` with a short lease in the test's own namespace, on the session's broker."""
    async with _bed("nats_server", namespace, request) as found:
        yield found


@pytest.fixture
async def own_bed(broker: str, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """The same on a broker that this test may stop (`bed.ground.stop_broker()`)."""
    async with _bed("own_nats_server", namespace, request) as found:
        yield found


@asynccontextmanager
async def _bed(server: str, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    found: NatsServer = request.getfixturevalue(server)
    ground = NatsGround(found)
    try:
        async with open_bed(ground, QueueConfig(namespace, "mill", lease=LEASE)) as bed:
            yield bed
    finally:
        ground.close()
