"""Conversations with running tasks in every place that a handler can run in: real processes, SIGKILL, hard cancels."""

import signal
from typing import Any

import pytest
from millpond import NotRunning, TaskCancelled, TaskHandle, UnknownQuery

from tests.support.eventually import eventually
from tests.support.workers import START, Mill

APP = "tests.support.isolated_app:app"
TALKERS = ["inline.talk", "thread.talk", "thread.talk-async", "process.talk", "process.talk-async"]


async def total_of(task: TaskHandle) -> list[int]:
    """What the handler says of itself, once it answers: the sum so far and its process."""

    async def look() -> Any:
        try:
            return await task.query("total", timeout=START)
        except (NotRunning, UnknownQuery):
            return None

    found: list[int] = await eventually(look, START, "an answer of the handler")
    return found


async def reaches(task: TaskHandle, total: int) -> None:
    async def look() -> bool:
        return (await total_of(task))[0] == total

    await eventually(look, START, f"a total of {total}")


@pytest.mark.parametrize("handler", TALKERS)
async def test_signals_queries_checkpoints_and_words_work_in_every_place(mill: Mill, handler: str) -> None:
    worker = await mill.start("w1", app=APP)
    task = await mill.client.submit(mill.queue.pool, handler)
    await task.signal("add", 1)
    await reaches(task, 1)
    for number in range(2, 11):
        await task.signal("add", number)
    await reaches(task, 55)
    assert ((await total_of(task))[1] == worker.process.pid) == (not handler.startswith("process"))
    await task.signal("end")
    assert await task.result(timeout=START) == [0, 55]
    await mill.is_empty()

    async def told() -> bool:
        return [one.message for one in await mill.states("w1") if one.reason == "TalkEnded"] == ["total 55"]

    await eventually(told, START, "the word in the worker's log")


@pytest.mark.parametrize("handler", ["inline.talk", "thread.talk", "process.talk"])
async def test_sigkill_of_the_worker_resumes_from_the_checkpoint_and_repeats_no_signal(
    mill: Mill, handler: str
) -> None:
    first = await mill.start("w1", app=APP)
    task = await mill.client.submit(mill.queue.pool, handler)
    for _ in range(3):
        await task.signal("add", 1)
    await reaches(task, 3)
    await stored(mill, task, 3)
    first.signal(signal.SIGKILL)
    await first.ended()
    await task.signal("add", 10)
    await task.signal("end")
    await mill.start("w2", app=APP)
    assert await task.result(timeout=START) == [3, 13]
    await mill.is_empty()


async def stored(mill: Mill, task: TaskHandle, total: int) -> None:
    """Progress is said after the checkpoint: once it is heard, the state is stored."""

    async def look() -> bool:
        return [one.progress for one in (await mill.next_beat("w1")).in_flight] == [f"at {total}"]

    await eventually(look, START, f"the checkpoint of {total}")


@pytest.mark.parametrize(
    "handler",
    [
        "inline.stubborn-gate-async", "inline.blocking-gate-async", "thread.stubborn-gate",
        "thread.stubborn-gate-async", "process.stubborn-gate", "process.blocking-gate-async",
    ],
)  # fmt: skip
async def test_a_hard_cancel_ends_what_hears_nothing_and_its_slot_serves_on(mill: Mill, handler: str) -> None:
    worker = await mill.start("w1", app=APP, concurrency=1)
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, handler, [gate.path])
    await eventually((gate.directory / "runs").exists, START, "the handler")
    assert await task.cancel("at once", mode="hard")
    with pytest.raises(TaskCancelled, match="at once"):
        await task.result(timeout=START)
    # The only slot, in the same place: a handler that goes on would be waited for in vain.
    place = handler.partition(".")[0]
    name = f"{place}.whoami-async" if place == "inline" else f"{place}.whoami"
    again = await mill.client.submit(mill.queue.pool, name)
    assert (await again.result(timeout=START))["attempt"] == 1
    await mill.is_empty()
    assert worker.process.poll() is None
    assert [event.state for event in await task.events()] == ["Running", "Cancelled"]


async def test_a_worker_that_a_handler_wants_recycled_drains_and_ends(mill: Mill) -> None:
    worker = await mill.start("w1", app=APP)
    task = await mill.client.submit(mill.queue.pool, "recycle")
    assert await worker.ended() == 0
    assert await task.result(timeout=START) is None
    said = [(one.reason, one.message) for one in await mill.states("w1") if one.state == "Draining"]
    assert said == [("Recycling", "a handler asked for it: the cache has grown too large")]
