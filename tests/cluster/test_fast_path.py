"""What is stored in a queue is acted on at once: this operator ticks every ten minutes, so only a push is in time."""

import asyncio
import time

import pytest
from millpond import Client
from millpond_api.broker import QueueConfig

from tests.support import nats
from tests.support.eventually import eventually_sync
from tests.support.kube import condition
from tests.support.works import LONG, Works, show

TICK = 600
SOON = 120.0
"""Seconds: milliseconds on an idle machine, and far below the tick on any."""


@pytest.fixture
def pushed(own_works: Works) -> Works:
    own_works.start_operator(tick_seconds=TICK)
    return own_works


def submit(works: Works, pool: str, count: int) -> float:
    """Submit through the SDK; the moment right before the first publish."""

    async def go() -> float:
        async with Client.connect(works.server.url, namespace=works.namespace) as client:
            began = time.monotonic()
            await asyncio.gather(*(client.submit(pool, "echo", [number]) for number in range(count)))
            return began

    return asyncio.run(go())


def test_a_burst_above_zero_grows_the_pool_without_a_tick(pushed: Works) -> None:
    pushed.make_pool("burst", scaling={"minWorkers": 1, "maxWorkers": 20})
    pushed.scales_to("burst", 1, SOON)
    for before, wanted in ((0, 5), (5, 12), (12, 20)):
        began = submit(pushed, "burst", wanted - before)
        pushed.scales_to("burst", wanted, SOON)
        show(f"burst above zero by push: {wanted} workers {(time.monotonic() - began) * 1000:.0f} ms after the publish")


def test_a_pool_made_together_with_its_tasks_waits_for_no_tick(pushed: Works) -> None:
    pushed.make_task("first", "late")
    pushed.make_pool("late", scaling={"maxWorkers": 5})
    pushed.scales_to("late", 1, SOON)


def test_a_pool_made_over_a_queue_that_waits_already_waits_for_no_tick(pushed: Works) -> None:
    """Nothing is published any more: only a look right after the queue and the Deployment were made finds the tasks."""
    asyncio.run(nats.ensure_pool(pushed.server.url, QueueConfig(pushed.namespace, "heir", lease=2.0)))
    submit(pushed, "heir", 3)
    pushed.make_pool("heir", scaling={"maxWorkers": 5})
    pushed.scales_to("heir", 3, SOON)


def test_kubectl_scale_waits_for_no_tick(pushed: Works) -> None:
    pushed.make_pool("hand", scaling={"maxWorkers": 5})
    pushed.pool_is_ready("hand")
    pushed.kube.kubectl("scale", "workerpool/hand", "--replicas=3")
    pushed.scales_to("hand", 3, SOON)


def test_many_pools_woken_at_once_all_get_their_workers_without_a_tick(pushed: Works) -> None:
    names = [f"herd-{number:02}" for number in range(40)]
    for name in names:
        pushed.make_pool(name, scaling={"maxWorkers": 3})
    for name in names:
        eventually_sync(
            lambda name=name: condition(pushed.kube.get("workerpools", name), "Ready").get("reason") == "AtZero", LONG
        )
    began = time.monotonic()

    async def storm() -> None:
        async with Client.connect(pushed.server.url, namespace=pushed.namespace) as client:
            await asyncio.gather(*(client.submit(name, "echo", [1]) for name in names))

    asyncio.run(storm())
    for name in names:
        pushed.scales_to(name, 1, SOON)
    show(f"{len(names)} pools woken at once: all scaled {time.monotonic() - began:.2f} s after the first publish")
