"""The keyed work queue: nothing is worked on twice at once, and nothing that was added is forgotten."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from millpond_operator.cluster import workqueue
from millpond_operator.cluster.workqueue import WorkQueue

from tests.support.eventually import eventually


@asynccontextmanager
async def running(work: Callable[[str], Awaitable[None]], concurrency: int = 4) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue("test", work, concurrency)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_key_added_many_times_before_it_is_worked_on_is_worked_on_once() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async with running(work) as queue:
        for _ in range(100):
            queue.add("a")
        queue.add("last")
        await eventually(lambda: "last" in seen)
    assert seen == ["a", "last"]


async def test_a_key_added_while_it_is_worked_on_is_worked_on_again_and_never_twice_at_once() -> None:
    began, go, at_once, most = asyncio.Event(), asyncio.Event(), 0, 0
    runs = 0

    async def work(_: str) -> None:
        nonlocal at_once, most, runs
        at_once += 1
        most = max(most, at_once)
        runs += 1
        began.set()
        await go.wait()
        at_once -= 1

    async with running(work) as queue:
        queue.add("a")
        await began.wait()
        queue.add("a")
        queue.add("a")
        go.set()
        await eventually(lambda: runs == 2 and len(queue) == 0)
    assert most == 1


async def test_no_change_is_missed_under_random_load() -> None:
    versions: Counter[str] = Counter()
    done: dict[str, int] = {}
    busy: set[str] = set()
    source = random.Random(1)

    async def work(key: str) -> None:
        assert key not in busy
        busy.add(key)
        version = versions[key]
        await asyncio.sleep(source.random() / 500)
        busy.discard(key)
        done[key] = version

    async with running(work, concurrency=3) as queue:
        for _ in range(500):
            key = source.choice("abcdefgh")
            versions[key] += 1
            queue.add(key) if source.random() < 0.7 else queue.add_after(key, source.random() / 100)
            await asyncio.sleep(source.random() / 1000)
        await eventually(lambda: done == versions)


async def test_one_that_fails_is_tried_again_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "FIRST_RETRY", 0.01)
    tries: Counter[str] = Counter()

    async def work(key: str) -> None:
        tries[key] += 1
        if key == "bad" and tries[key] < 4:
            raise RuntimeError("not yet")

    async with running(work, concurrency=1) as queue:
        queue.add("bad")
        queue.add("good")
        await eventually(lambda: tries == {"bad": 4, "good": 1})


async def test_the_delay_grows_with_every_failure_and_is_forgotten_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workqueue, "FIRST_RETRY", 0.02)
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def work(_: str) -> None:
        times.append(loop.time())
        if len(times) not in (4, 6):
            raise RuntimeError("not yet")

    async with running(work) as queue:
        queue.add("a")
        await eventually(lambda: len(times) == 4)
        queue.add("a")
        await eventually(lambda: len(times) == 6)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[1] >= 0.04
    assert waits[2] >= 0.08
    assert waits[4] >= 0.02


async def test_a_key_due_later_is_worked_on_at_once_when_it_is_added() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async with running(work) as queue:
        queue.add_after("a", 3600)
        queue.add("a")
        await eventually(lambda: seen == ["a"])


async def test_of_two_delays_the_shorter_counts() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async with running(work) as queue:
        queue.add_after("a", 0.01)
        queue.add_after("a", 3600)
        queue.add_after("b", 3600)
        queue.add_after("b", 0.01)
        await eventually(lambda: sorted(seen) == ["a", "b"])
