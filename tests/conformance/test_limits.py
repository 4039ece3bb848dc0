"""Rates and concurrency keys: how many tasks start, how many run at once, what waits where, and who passes."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from millpond import Places, PoolLimits, RetryPolicy, TaskCancelled
from millpond.limiting import POOL
from millpond_api import subjects
from millpond_api.limits import MAKE_UP, Due, KeyPolicy, Rate, RateState, next_due

from tests.support.bed import START, Bed, Gate

MILLISECOND = 0.001
"""For epoch seconds as floats, and the last digits of time stamps."""


async def claim_times(bed: Bed, tasks: list[Any]) -> list[float]:
    """When the server stored the claims: the one clock that all workers share."""
    found = []
    for task in tasks:
        log = subjects.task_events(bed.queue.namespace, bed.queue.pool, task.id)
        stored = await bed.transport.read_log(subjects.STREAM_EVENTS, log)
        found += [one.stored for one in stored if b'"Running"' in one.body]
    return sorted(found)


async def server_time(bed: Bed) -> float:
    """What the server's clock says, in epoch seconds."""
    return await bed.transport.read_clock(subjects.STREAM_LIMITS)


def none_too_early(times: list[float], began: float, rate: Rate) -> bool:
    """Whether no start came before the rate allows it, counted from `began`.

    Starts that are due and late (a machine that stalls) may follow each other at once: what counts is each one's place.
    """
    due = (began + (place - rate.burst + 1) * rate.interval for place in range(len(times)))
    return all(time >= first - MILLISECOND for time, first in zip(times, due, strict=True))


def gated(bed: Bed, name: str = "gated", **options: Any) -> Gate:
    """A handler that notes its task and waits at a gate."""
    gate = Gate()

    @bed.app.task(name, **options)
    async def handler(label: str) -> str:
        await gate.pass_through(label)
        return label

    return gate


async def test_the_pools_rate_is_shared_by_its_workers(bed: Bed) -> None:
    rate = Rate(count=20)
    bed.settings["limits"] = PoolLimits(rate=rate)

    @bed.app.task("noop")
    async def noop() -> None: ...

    tasks = await bed.client.submit_many(bed.queue.pool, "noop", [[]] * 40)
    began = await server_time(bed)
    for name in ("w1", "w2", "w3"):
        await bed.start_worker(name)
    await asyncio.gather(*(task.result(timeout=START) for task in tasks))
    times = await claim_times(bed, tasks)
    assert len(times) == 40
    assert none_too_early(times, began, rate)
    assert times[-1] - times[0] <= 39 / 20 * 1.25 + bed.ground.stalls


async def test_a_burst_is_bounded(bed: Bed) -> None:
    rate = Rate(count=10, burst=8)
    bed.settings["limits"] = PoolLimits(rate=rate)

    @bed.app.task("noop")
    async def noop() -> None: ...

    tasks = await bed.client.submit_many(bed.queue.pool, "noop", [[]] * 20)
    began = await server_time(bed)
    await bed.start_worker("w1", concurrency=20)
    await asyncio.gather(*(task.result(timeout=START) for task in tasks))
    times = await claim_times(bed, tasks)
    assert times[7] - times[0] <= 0.1 + bed.ground.stalls
    assert none_too_early(times, began, rate)


async def test_a_rate_outlives_the_workers(bed: Bed) -> None:
    bed.settings["limits"] = PoolLimits(rate=Rate(count=1, seconds=2))

    @bed.app.task("noop")
    async def noop() -> None: ...

    began = await server_time(bed)
    first = await bed.start_worker("w1")
    one = await bed.submit("noop")
    await one.result(timeout=START)
    await bed.crash(first)
    due = await rate_due(bed)
    await bed.start_worker("w2")
    other = await bed.submit("noop")
    await other.result(timeout=START)
    times = await claim_times(bed, [one, other])
    assert due.tat >= began + 2 - MILLISECOND
    assert times[1] >= due.tat - MILLISECOND


async def rate_due(bed: Bed) -> Due:
    """Where the pool's rate stands after the last reservation."""
    subject = subjects.limit(bed.queue.namespace, bed.queue.pool, "rate", POOL)
    stored = await bed.transport.read_last(subjects.STREAM_LIMITS, subject)
    return next_due(RateState.decode(stored.body), stored.stored) if stored else Due()


async def test_starts_that_a_crash_left_unused_are_made_up_for(bed: Bed) -> None:
    bed.settings["limits"] = PoolLimits(rate=Rate(count=20))

    @bed.app.task("noop")
    async def noop() -> None: ...

    tasks = await bed.client.submit_many(bed.queue.pool, "noop", [[]] * 60)
    first = await bed.start_worker("w1")
    await tasks[0].result(timeout=START)
    await bed.crash(first)
    before = await rate_due(bed)
    assert before.owed <= bed.ground.stalls

    async def is_stalled() -> bool:
        return await server_time(bed) > before.tat + MAKE_UP / 2

    await bed.until(is_stalled, "half a second in which nobody asked for a start")
    await bed.start_worker("w2")
    due = await bed.until(lambda: asked_again(bed, before), "the second worker's reservation")
    assert MAKE_UP / 4 < due.owed <= MAKE_UP


async def asked_again(bed: Bed, before: Due) -> Due | None:
    due = await rate_due(bed)
    return due if due.tat > before.tat else None


async def test_a_handlers_rate_lets_other_handlers_pass(bed: Bed) -> None:
    @bed.app.task("slow", rate="1/30s")
    async def slow() -> None: ...

    @bed.app.task("free")
    async def free(number: int) -> int:
        return number

    await bed.start_worker("w1", concurrency=1)
    slow_ones = [await bed.submit("slow") for _ in range(5)]
    await slow_ones[0].result(timeout=START)
    assert await bed.call("free", 7) == 7

    async def put_off() -> bool:
        status = await slow_ones[1].status()
        return (status.state, status.reason, status.attempts) == ("Scheduled", "RateLimited", 0)

    await bed.until(put_off, "the second put off")
    await bed.is_empty()


async def test_a_rate_key_waits_for_itself_alone_and_each_task_once(bed: Bed) -> None:
    rate = Rate(count=1, seconds=3)
    bed.settings["limits"] = PoolLimits(per_key=rate)

    @bed.app.task("noop")
    async def noop() -> None: ...

    await bed.start_worker("w1")
    began = await server_time(bed)
    same = [await bed.submit("noop", rate_key="a") for _ in range(3)]
    other = await bed.submit("noop", rate_key="b")
    await asyncio.gather(*(task.result(timeout=START) for task in (*same, other)))
    times = await claim_times(bed, same)
    assert none_too_early(times, began, rate)
    assert [event.state for event in await bed.log(other)] == ["Running", "Succeeded"]
    logs = [await bed.log(task) for task in same]
    put_off = Counter(event.state for log in logs for event in log)
    assert put_off["Scheduled"] <= 2
    assert put_off["Running"] == 3


async def test_one_task_of_a_key_runs_at_a_time_and_the_line_keeps_its_order(bed: Bed) -> None:
    bed.settings["limits"] = PoolLimits(places=Places(limit=1))
    gate = gated(bed)
    for name in ("w1", "w2"):
        await bed.start_worker(name, concurrency=8)
    tasks = []
    for number in range(6):
        task = await bed.submit("gated", f"a{number}", key="a")
        tasks.append(task)
        if number:
            # In line before the next one comes: two workers would race otherwise.
            await bed.until(lambda task=task: is_parked(task), f"a{number} in line")
        else:
            await bed.until(lambda: bool(gate.runs), "a0 running")
    other = await bed.submit("gated", "b0", key="b")
    await bed.until(lambda: len(gate.runs) == 2, "the other key passing")
    assert gate.runs == ["a0", "b0"]
    assert "held by task " + tasks[0].id in (await bed.log(tasks[1]))[-1].message
    gate.open()
    await asyncio.gather(*(task.result(timeout=START) for task in [*tasks, other]))
    assert [name for name in gate.runs if name.startswith("a")] == [f"a{number}" for number in range(6)]
    await bed.is_empty()


async def is_parked(task: Any) -> bool:
    events = await task.events()
    return bool(events) and events[-1].reason == "ConcurrencyLimit"


async def test_as_many_tasks_of_a_key_as_it_has_places(bed: Bed) -> None:
    gate, inside, most = bed.gate(), 0, 0

    @bed.app.task("counted", concurrency=3)
    async def counted() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await gate.pass_through()
        await asyncio.sleep(0.02)
        inside -= 1

    for name in ("w1", "w2"):
        await bed.start_worker(name, concurrency=8)
    tasks = await bed.client.submit_many(bed.queue.pool, "counted", [[]] * 40)
    await bed.until(lambda: inside == 3, "three at once")
    gate.open()
    await asyncio.gather(*(task.result(timeout=START) for task in tasks))
    assert most == 3
    await bed.is_empty()


async def test_a_crash_of_the_holder_frees_its_place_by_its_own_redelivery(bed: Bed) -> None:
    bed.settings["limits"] = PoolLimits(places=Places(limit=1))
    gate = gated(bed)
    first = await bed.start_worker("w1")
    one = await bed.submit("gated", "one", key="a")
    await bed.until(lambda: gate.runs == ["one"], "the first running")
    two = await bed.submit("gated", "two", key="a")
    await bed.until(lambda: is_parked(two), "the second in line")
    await bed.crash(first)
    await bed.start_worker("w2")
    await bed.until(lambda: gate.runs == ["one", "one"], "the first again")
    gate.open()
    assert await one.result(timeout=START) == "one"
    assert await two.result(timeout=START) == "two"
    await bed.is_empty()


async def test_places_of_a_purged_queue_do_not_leak(bed: Bed) -> None:
    bed.settings["limits"] = PoolLimits(places=Places(limit=1))
    gate = gated(bed)
    first = await bed.start_worker("w1")
    await bed.submit("gated", "lost", key="a")
    await bed.until(lambda: gate.runs == ["lost"], "the first running")
    await bed.crash(first)
    await bed.transport.api(f"STREAM.PURGE.{subjects.pool_stream(bed.queue.namespace, bed.queue.pool)}")
    gate.open()
    await bed.start_worker("w2")
    assert await bed.call("gated", "next", key="a") == "next"


async def test_cancel_newest_ends_what_finds_no_place(bed: Bed) -> None:
    bed.settings["limits"] = PoolLimits(places=Places(policy=KeyPolicy.CANCEL_NEWEST))
    gate = gated(bed)
    await bed.start_worker("w1")
    one = await bed.submit("gated", "one", key="a")
    await bed.until(lambda: gate.runs == ["one"], "the first running")
    two = await bed.submit("gated", "two", key="a")
    with pytest.raises(TaskCancelled, match=f"task {one.id} runs"):
        await two.result(timeout=START)
    gate.open()
    assert await one.result(timeout=START) == "one"
    # The outcome comes first, giving the place back is its consequence.
    await bed.is_empty()
    assert await bed.call("gated", "three", key="a") == "three"


async def test_cancel_running_leaves_the_newest_alone(bed: Bed) -> None:
    bed.settings["limits"] = PoolLimits(places=Places(policy=KeyPolicy.CANCEL_RUNNING))
    gate = gated(bed)
    await bed.start_worker("w1")
    tasks = [await bed.submit("gated", "0", key="a")]
    await bed.until(lambda: gate.runs == ["0"], "the first running")
    for number in range(1, 4):
        tasks.append(await bed.submit("gated", str(number), key="a"))
    for task in tasks[:-1]:
        with pytest.raises(TaskCancelled, match="a"):
            await task.result(timeout=START)
    gate.open()
    assert await tasks[-1].result(timeout=START) == "3"
    await bed.is_empty()


async def test_a_failed_attempt_gives_its_place_to_the_next_in_line(bed: Bed) -> None:
    order: list[str] = []
    gate = bed.gate()

    @bed.app.task("flaky", concurrency=1, retry=RetryPolicy(max_attempts=2, initial=0.6, jitter=0.0))
    async def flaky(label: str) -> str:
        order.append(label)
        await gate.pass_through(label)
        if order.count(label) == 1 and label == "one":
            raise RuntimeError("again")
        return label

    await bed.start_worker("w1")
    one = await bed.submit("flaky", "one")
    await bed.until(lambda: order == ["one"], "the first running")
    two = await bed.submit("flaky", "two")
    await bed.until(lambda: is_parked(two), "the second in line")
    gate.open()
    await asyncio.gather(one.result(timeout=START), two.result(timeout=START))
    assert order == ["one", "two", "one"]
    await bed.is_empty()
