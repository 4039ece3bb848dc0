"""Fixtures of every tier: a fresh name for each test, so that tests share servers and never each other's data.

Real nats-servers: one for the session, and one of its own for each test that hurts it.

Property tests draw the same examples in every run, so that a run says something about the change and not about its
luck; `MILLPOND_EXPLORE=10` draws new ones, ten times as many where a test sets no number of its own.
"""

import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.nats import NatsServer

_COUNTER = itertools.count(1)
_EXPLORE = int(os.environ.get("MILLPOND_EXPLORE", "0"))

# A deadline and the check for slow drawing say how busy the machine is, not whether the code is right.
settings.register_profile(
    "millpond",
    derandomize=not _EXPLORE,
    deadline=None,
    database=None,
    print_blob=True,
    max_examples=100 * max(1, _EXPLORE),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("millpond")


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
