"""A pool at zero wakes when a task is published. The figures beside a plain poll: `make bench`."""

import asyncio

import pytest

from tests.support.logs import forward_nats
from tests.support.reaction import measure
from tests.support.stage import Stage

ROUNDS = 5
BOUND_MS = 5_000.0
"""Generous, for a machine that does other things; a quiet one takes about 100 ms."""


@pytest.mark.alone
def test_publish_wakes_a_pool_at_zero(stage: Stage) -> None:
    with forward_nats(stage.kube) as url:
        figures = asyncio.run(measure(stage, url, ROUNDS))
    stage.say(f"publish → Deployment patched: {figures}")
    assert figures.p50 < BOUND_MS
