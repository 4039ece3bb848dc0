"""Fairness between keys: who waits with a few tasks does not wait for who came first with thousands."""

import asyncio
from typing import Any

import pytest
from millpond import Context, RetryPolicy
from millpond_api import subjects
from millpond_api.fairness import lane_pair

from tests.support.bed import START, Bed

LANES = 64


def far_apart(count: int) -> list[str]:
    """Keys of which no two share a lane, so that what is measured is the turns and not the luck of hashing."""
    keys: list[str] = []
    taken: set[str] = set()
    number = 0
    while len(keys) < count:
        key = f"tenant-{number}"
        number += 1
        if not taken & set(lane_pair(key, LANES)):
            taken |= set(lane_pair(key, LANES))
            keys.append(key)
    return keys


async def noting(bed: Bed) -> list[str]:
    """The handler `note` and the list of what it was told, in order of the starts."""
    starts: list[str] = []

    @bed.app.task("note")
    async def note(who: str) -> None:
        starts.append(who)

    await bed.change_pool(lanes=LANES)
    return starts


async def fill(bed: Bed, tenant: str, count: int, **options: Any) -> None:
    await bed.client.submit_many("mill", "note", [[tenant]] * count, fair=tenant, **options)


@pytest.mark.parametrize(("workers", "slots"), [(1, 8), (4, 1)], ids=["one with many slots", "many with one slot"])
async def test_ten_tasks_behind_a_crowd_take_their_turns(bed: Bed, workers: int, slots: int) -> None:
    starts = await noting(bed)
    heavy, light = far_apart(2)
    await fill(bed, heavy, 1_000)
    for number in range(workers):
        await bed.spawn_worker(f"w{number}", concurrency=slots)
    await bed.until(lambda: len(starts) >= 100, "the heavy tenant under way")
    await fill(bed, light, 10)
    before = len(starts)
    await bed.until(lambda: starts.count(light) == 10, "the light tenant served")
    last = max(place for place, who in enumerate(starts) if who == light)
    first = starts.index(light)
    # Its fair share is every second start: 20 of them. Each worker has its own turns, hence the allowance.
    assert last - first <= 20 + 4 * workers * slots, (before, first, last)


async def test_many_tenants_share_equally(bed: Bed) -> None:
    starts = await noting(bed)
    tenants = far_apart(10)
    for tenant, count in zip(tenants, (900, *[100] * 9), strict=True):
        await fill(bed, tenant, count)
    await bed.spawn_worker("w1", concurrency=4)
    await bed.spawn_worker("w2", concurrency=4)
    await bed.until(lambda: len(starts) >= 600, "600 starts")
    counts = [starts[:600].count(tenant) for tenant in tenants]
    assert all(48 <= count <= 72 for count in counts), counts
    await bed.is_empty()


async def test_an_idle_worker_is_woken_by_a_key_that_it_never_saw(bed: Bed) -> None:
    starts = await noting(bed)
    await bed.start_worker("w1", concurrency=1)
    await bed.start_worker("w2", concurrency=1)
    for tenant in far_apart(12):
        assert await asyncio.wait_for(bed.call("note", tenant, fair=tenant), START) is None
    assert len(starts) == 12
    await bed.is_empty()


async def test_tasks_without_a_key_and_of_every_class_run_beside_lanes(bed: Bed) -> None:
    starts = await noting(bed)
    await bed.change_pool(classes=("high", "low"))
    bed.settings = {"classes": ("high", "low")}
    keys = far_apart(3)
    for name in ("high", "low"):
        await bed.client.submit_many("mill", "note", [[name]] * 20, priority=name)
        for key in keys:
            await fill(bed, key, 20, priority=name)
    await bed.start_worker("w1")
    await bed.is_empty()
    assert {who: starts.count(who) for who in set(starts)} == {"high": 20, "low": 20, **dict.fromkeys(keys, 40)}


async def test_a_retry_waits_in_the_lane_of_its_key(bed: Bed) -> None:
    await noting(bed)

    @bed.app.task("flaky", retry=RetryPolicy(max_attempts=2, initial=0.05, jitter=0.0))
    async def flaky(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise RuntimeError("again")
        return ctx.attempt

    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Any) -> None:
        heard.put_nowait(message.subject)

    subscription = await bed.transport.subscribe(subjects.wake_lanes(bed.queue.namespace, "mill"), hear)
    await bed.start_worker("w1")
    assert await bed.call("flaky", fair="tenant") == 2
    first, second = [await asyncio.wait_for(heard.get(), START) for _ in range(2)]
    assert first == second
    await subscription.close()
    await bed.is_empty()


async def test_what_waits_in_lanes_is_served_after_fairness_was_turned_off(bed: Bed) -> None:
    starts = await noting(bed)
    await fill(bed, "tenant", 5)
    await bed.change_pool(lanes=0)
    await bed.start_worker("w1")
    await bed.until(lambda: len(starts) == 5, "the lane served")
    await bed.is_empty()


async def test_a_worker_lost_amid_a_lane_loses_nothing(bed: Bed) -> None:
    starts, gate = await noting(bed), bed.gate()

    @bed.app.task("held")
    async def held(ctx: Context) -> int:
        await gate.pass_through(str(ctx.attempt))
        return ctx.attempt

    worker = await bed.start_worker("w1", concurrency=1)
    task = await bed.submit("held", fair="tenant")
    await bed.until(lambda: gate.runs, "it runs")
    await bed.crash(worker)
    gate.open()
    await bed.start_worker("w2", concurrency=1)
    await task.result(timeout=START)
    assert await bed.story(task) == ["Running(1)@w1", "Running(1)@w2", "Succeeded(1)@w2"]
    assert not starts
    await bed.is_empty()
