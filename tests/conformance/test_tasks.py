"""The core of the protocol as a user sees it: results, retries, dead letters, lost workers, a broker that goes away."""

import asyncio
from datetime import timedelta

import pytest
from millpond import Context, RetryPolicy, TaskCancelled, TaskExpired, TaskFailed
from millpond_api.lifecycle import TaskState

from tests.support.bed import Bed

QUICK = RetryPolicy(max_attempts=3, initial=0.05, jitter=0.0)


async def test_an_async_and_a_plain_handler_run_once_and_leave_an_empty_queue(bed: Bed) -> None:
    @bed.app.task("echo")
    async def echo(value: object) -> object:
        return value

    @bed.app.task("double")
    def double(value: int) -> int:
        return 2 * value

    await bed.start_worker("w1")
    task = await bed.submit("echo", {"a": [1, None]})
    assert await task.result(timeout=30) == {"a": [1, None]}
    assert await bed.story(task) == ["Running(1)@w1", "Succeeded(1)@w1"]
    assert await bed.call("double", 4) == 8
    await bed.is_empty()


async def test_a_retryable_error_backs_off_and_the_next_attempt_counts(bed: Bed) -> None:
    @bed.app.task("flaky", retry=QUICK)
    async def flaky(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise RuntimeError("again")
        return ctx.attempt

    await bed.start_worker("w1")
    task = await bed.submit("flaky")
    assert await task.result(timeout=30) == 3
    assert [event.state for event in await bed.log(task)] == [
        "Running", "Backoff", "Running", "Backoff", "Running", "Succeeded",
    ]  # fmt: skip
    await bed.is_empty()


async def test_the_last_attempt_that_fails_becomes_a_dead_letter(bed: Bed) -> None:
    @bed.app.task("broken", retry=QUICK)
    def broken() -> None:
        raise RuntimeError("never")

    await bed.start_worker("w1")
    task = await bed.submit("broken")
    with pytest.raises(TaskFailed) as failure:
        await task.result(timeout=30)
    assert failure.value.attempts == 3
    await bed.dead_letter(task.id)
    assert len(await bed.dead_letters()) == 1
    await bed.is_empty()


async def test_a_delayed_task_starts_no_sooner(bed: Bed) -> None:
    @bed.app.task("noop")
    async def noop() -> None: ...

    await bed.start_worker("w1")
    began = bed.ground.now()
    task, later = await bed.submit("noop", delay=0.5), await bed.submit("noop", delay=3600)
    assert (await later.status()).state == TaskState.SCHEDULED
    await task.result(timeout=30)
    # A time on the wire has microseconds: it may be the fraction of one before what was meant.
    assert bed.ground.now() - began >= 0.5 - 0.001
    assert (await later.status()).state == TaskState.SCHEDULED


async def test_a_task_past_its_deadline_expires_unrun(bed: Bed) -> None:
    ran: list[str] = []

    @bed.app.task("noop")
    async def noop(ctx: Context) -> None:
        ran.append(ctx.task_id)

    task = await bed.submit("noop", deadline=timedelta(seconds=0.1))
    await asyncio.sleep(0.15)
    await bed.start_worker("w1")
    with pytest.raises(TaskExpired):
        await task.result(timeout=30)
    assert ran == []


async def test_a_running_task_that_is_cancelled_ends_and_leaves_the_queue(bed: Bed) -> None:
    gate = bed.gate()

    @bed.app.task("wait")
    async def wait(ctx: Context) -> None:
        await gate.pass_through(ctx.task_id)

    await bed.start_worker("w1")
    task = await bed.submit("wait")
    await bed.until(lambda: gate.runs == [task.id], "the handler's start")
    assert await task.cancel("enough")
    with pytest.raises(TaskCancelled):
        await task.result(timeout=30)
    await bed.is_empty()


async def test_a_worker_that_dies_amid_a_task_loses_nothing(bed: Bed) -> None:
    gate = bed.gate()

    @bed.app.task("wait")
    async def wait(ctx: Context) -> str:
        await gate.pass_through(ctx.task_id)
        return "done"

    first = await bed.start_worker("w1")
    task = await bed.submit("wait")
    await bed.until(lambda: gate.runs, "the handler's start")
    await bed.crash(first)
    gate.open()
    await bed.start_worker("w2")
    assert await task.result(timeout=30) == "done"
    assert await bed.story(task) == ["Running(1)@w1", "Running(1)@w2", "Succeeded(1)@w2"]
    await bed.is_empty()


async def test_a_stopped_worker_hands_its_task_back_with_the_attempt_refunded(bed: Bed) -> None:
    gate = bed.gate()

    @bed.app.task("wait")
    async def wait(ctx: Context) -> int:
        await gate.pass_through(ctx.task_id)
        return ctx.attempt

    first = await bed.start_worker("w1", grace=0)
    task = await bed.submit("wait")
    await bed.until(lambda: gate.runs, "the handler's start")
    await first.stop()
    gate.open()
    await bed.start_worker("w2")
    assert await task.result(timeout=30) == 1
    assert await bed.story(task) == ["Running(1)@w1", "Queued(1)@w1", "Running(1)@w2", "Succeeded(1)@w2"]


async def test_a_cut_connection_costs_neither_a_result_nor_a_second_run(bed: Bed) -> None:
    gate = bed.gate()

    @bed.app.task("wait")
    async def wait(ctx: Context) -> str:
        await gate.pass_through(ctx.task_id)
        return "done"

    await bed.start_worker("w1")
    task = await bed.submit("wait")
    await bed.until(lambda: gate.runs, "the handler's start")
    waiting = asyncio.create_task(task.result(timeout=30))
    bed.ground.cut("w1")
    bed.ground.cut("client")
    gate.open()
    assert await waiting == "done"
    assert gate.runs == [task.id]


async def test_a_broker_that_restarts_costs_time_and_no_task(own_bed: Bed) -> None:
    bed = own_bed
    gate = bed.gate()

    @bed.app.task("wait")
    async def wait(ctx: Context, number: int) -> int:
        await gate.pass_through(ctx.task_id)
        return number

    await bed.start_worker("w1", concurrency=4)
    tasks = [await bed.submit("wait", number) for number in range(6)]
    await bed.until(lambda: len(gate.runs) == 4, "four handlers' start")
    await bed.ground.stop_broker(hard=True)
    gate.open()
    await bed.ground.start_broker()
    assert [await task.result(timeout=60) for task in tasks] == list(range(6))
    for task in tasks:
        assert (await bed.log(task))[-1].state == TaskState.SUCCEEDED
    await bed.is_empty()
