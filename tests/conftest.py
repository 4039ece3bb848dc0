"""Fixtures of every tier: a fresh name for each test, so that tests share servers and never each other's data.

Real nats-servers: one for the session, and one of its own for each test that hurts it.
"""

import itertools
import os
from collections.abc import Iterator

import pytest

from tests.support.nats import NatsServer

_COUNTER = itertools.count(1)


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has: `t<process>-<number>`."""
    return f"t{os.getpid()}-{next(_COUNTER)}"


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
