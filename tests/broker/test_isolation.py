"""Soft and hard timeouts, crashes and limits, wherever a handler runs: real processes, real signals."""

import asyncio
import json
import os
import signal
from typing import Any

import pytest
from millpond import TaskCancelled, TaskFailed

from tests.support.eventually import eventually
from tests.support.workers import START, Mill

APP = "tests.support.isolated_app:app"


async def call(mill: Mill, handler: str, *args: Any, **options: Any) -> Any:
    task = await mill.client.submit(mill.queue.pool, handler, list(args), **options)
    return await task.result(timeout=START)


async def fail(mill: Mill, handler: str, *args: Any, **options: Any) -> TaskFailed:
    with pytest.raises(TaskFailed) as failure:
        await call(mill, handler, *args, **options)
    return failure.value


@pytest.mark.parametrize(
    "handler",
    ["inline.softly-async", "thread.softly-async", "process.softly-async", "thread.softly", "process.softly"],
)
async def test_a_soft_timeout_is_raised_in_the_handler_which_may_clean_up(mill: Mill, handler: str) -> None:
    await mill.start("w1", app=APP)
    assert await call(mill, handler, soft_timeout=0.5) == (
        "cleaned up: the handler has run for 0.5 s, its soft timeout"
    )
    await mill.is_empty()


async def test_a_signal_ends_a_sleep_in_c_that_a_thread_has_to_sleep_out(mill: Mill) -> None:
    await mill.start("w1", app=APP)
    assert await call(mill, "process.asleep", 60, soft_timeout=0.5) == "woken"
    # Long beside a stall of the machine: the exception must be there before the sleep has ended by itself.
    assert await call(mill, "thread.asleep", 6, soft_timeout=0.5) == "woken"


@pytest.mark.parametrize(
    "handler",
    [
        "inline.stubborn-async", "inline.blocking-async", "thread.stubborn-async", "thread.blocking-async",
        "process.stubborn-async", "process.blocking-async", "thread.stubborn", "process.stubborn",
    ],
)  # fmt: skip
async def test_a_hard_timeout_ends_what_hears_nothing_and_its_slot_serves_on(mill: Mill, handler: str) -> None:
    worker = await mill.start("w1", app=APP, concurrency=1)
    # Longer than the test has patience: a handler that goes on would be waited for in vain.
    failure = await fail(mill, handler, 10 * START, timeout=1)
    assert failure.type == "HardTimeout"
    assert "isolated_app.py" in failure.traceback
    # The same place, on the only slot.
    place = handler.partition(".")[0]
    again = await call(mill, f"{place}.whoami-async" if place == "inline" else f"{place}.whoami")
    assert again["attempt"] == 1
    await mill.is_empty()
    assert worker.process.poll() is None


async def test_a_worker_that_lost_too_many_threads_drains_and_ends_to_start_afresh(mill: Mill) -> None:
    worker = await mill.start("w1", app=APP, concurrency=2, lost_slots=2)
    for _ in range(2):
        assert (await fail(mill, "thread.stubborn", 60, timeout=0.3)).type == "HardTimeout"
    assert await worker.ended() == 0
    states = await mill.states("w1")
    assert [event.reason for event in states if event.state == "Draining"] == ["Recycling"]


@pytest.mark.parametrize(("how", "said"), [("segfault", "SIGSEGV"), ("exit", "exit code 7")])
async def test_a_crash_in_a_process_fails_one_attempt_and_not_the_worker(mill: Mill, how: str, said: str) -> None:
    worker = await mill.start("w1", app=APP, concurrency=2)
    other = await mill.client.submit(mill.queue.pool, "process.softly", [2])
    failure = await fail(mill, "process.crash", how)
    assert (failure.type, failure.attempts) == ("WorkerProcessDied", 1)
    assert said in str(failure)
    assert await other.result(timeout=START) == "slept"
    assert worker.process.poll() is None
    assert (await call(mill, "process.whoami"))["pid"] != worker.process.pid


async def test_memory_beyond_the_limit_fails_the_attempt_and_not_the_worker(mill: Mill) -> None:
    worker = await mill.start("w1", app=APP, process_memory=64 << 20)
    failure = await fail(mill, "process.crash", "memory")
    assert failure.type == "MemoryError"
    assert "limit of 64 MiB: raise spec.isolation.memoryLimit" in failure.message
    assert worker.process.poll() is None
    assert (await call(mill, "process.whoami"))["attempt"] == 1


async def test_a_process_is_replaced_after_its_number_of_tasks(mill: Mill) -> None:
    await mill.start("w1", app=APP, concurrency=1, process_tasks=2)
    pids = [(await call(mill, "process.whoami"))["pid"] for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


async def test_a_process_that_grew_too_large_is_replaced(mill: Mill) -> None:
    await mill.start("w1", app=APP, concurrency=1, process_recycle_memory=1 << 20)
    pids = [(await call(mill, "process.whoami"))["pid"] for _ in range(2)]
    assert pids[0] != pids[1]


@pytest.mark.parametrize(
    "handler", ["inline.whoami-async", "thread.whoami", "thread.whoami-async", "process.whoami", "process.whoami-async"]
)
async def test_what_a_handler_sees_is_the_same_everywhere_and_nothing_leaks_into_the_next(
    mill: Mill, handler: str
) -> None:
    worker = await mill.start("w1", app=APP, concurrency=1)
    for _ in range(2):
        task = await mill.client.submit(mill.queue.pool, handler)
        seen = await task.result(timeout=START)
        assert (seen["task"], seen["attempt"], seen["before"]) == (task.id, 1, "nobody")
        assert (seen["pid"] == worker.process.pid) == (not handler.startswith("process"))
    lines = worker.text().splitlines()
    plain = [line for line in lines if "a line of the standard library" in line]
    assert f"task={task.id} handler={handler} attempt=1" in plain[-1]
    own = [json.loads(line) for line in lines if "a line of structlog" in line]
    assert (own[-1]["task"], own[-1]["handler"]) == (task.id, handler)


@pytest.mark.parametrize("place", ["thread", "process"])
async def test_cancelling_reaches_the_context_in_every_place_and_progress_comes_back(mill: Mill, place: str) -> None:
    await mill.start("w1", app=APP)
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, f"{place}.heed", [gate.path])
    await gate.entered()

    async def told() -> bool:
        return [one.progress for one in (await mill.next_beat("w1")).in_flight] == ["10% begun"]

    await eventually(told, START, "the progress in a heartbeat")
    assert await task.cancel("enough")
    with pytest.raises(TaskCancelled):
        await task.result(timeout=START)
    await eventually((gate.directory / "noticed").exists, START, "the handler's end")
    await mill.is_empty()


@pytest.mark.parametrize("place", ["inline", "thread", "process"])
async def test_a_handler_submits_through_the_contexts_client_from_every_place(mill: Mill, place: str) -> None:
    await mill.start("w1", app=APP, concurrency=2)
    assert (await call(mill, f"{place}.child-task", mill.queue.pool))["attempt"] == 1


async def test_a_sigkilled_worker_leaves_no_child_behind(mill: Mill) -> None:
    worker = await mill.start("w1", app=APP, concurrency=1)
    pid = (await call(mill, "process.whoami"))["pid"]
    await mill.client.submit(mill.queue.pool, "process.stubborn", [60])
    worker.signal(signal.SIGKILL)
    await worker.ended()

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    await eventually(gone, START, "the end of the child")


async def test_a_hung_handler_is_told_from_a_busy_one_and_its_stack_is_kept(mill: Mill) -> None:
    await mill.start("w1", app=APP, concurrency=3)
    hung = {
        await mill.client.submit(mill.queue.pool, f"{place}.stubborn{tail}", [60], soft_timeout=0.5)
        for place, tail in (("inline", "-async"), ("thread", ""), ("process", ""))
    }

    async def told() -> bool:
        beat = await mill.next_beat("w1")
        marked = [one for one in beat.in_flight if one.hung and "isolated_app.py" in one.where]
        return {one.task for one in marked} == {task.id for task in hung}

    await eventually(told, START, "three hung tasks in a heartbeat")

    async def kept() -> bool:
        notes = [event for event in await mill.states("w1") if event.reason == "TaskHung"]
        return len(notes) == 3 and all("isolated_app.py" in note.message for note in notes)

    await eventually(kept, START, "three stacks in the worker's log")
    await asyncio.gather(*(task.cancel("seen") for task in hung))
