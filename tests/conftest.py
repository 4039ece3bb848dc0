"""Fixtures of every tier: a fresh name for each test, so that tests share servers and never each other's data."""

import itertools
import os

import pytest

_COUNTER = itertools.count(1)


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has: `t<process>-<number>`."""
    return f"t{os.getpid()}-{next(_COUNTER)}"
