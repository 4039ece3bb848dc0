"""What a handler can say beside returning and raising: Snooze, Cancel, Retry, and kinds of errors."""

from typing import Any

import pytest
from millpond import Cancel, Context, NonRetryable, Retry, RetryPolicy, Snooze, TaskCancelled, TaskFailed
from millpond_api import subjects
from millpond_api.lifecycle import TaskState

from tests.support.bed import Bed

ONCE = RetryPolicy(max_attempts=1)


async def test_snoozes_use_no_attempt_and_leave_nothing_behind(bed: Bed) -> None:
    """The handler's policy allows one attempt: it runs three times nevertheless, as attempt 1."""
    runs: list[int] = []

    @bed.app.task("sleepy", retry=ONCE)
    def sleepy(ctx: Context) -> int:
        runs.append(ctx.attempt)
        if len(runs) <= 2:
            raise Snooze(0.05, f"nap {len(runs)}")
        return len(runs)

    await bed.start_worker("w1")
    task = await bed.submit("sleepy")
    assert await task.result(timeout=30) == 3
    assert runs == [1, 1, 1]
    assert await bed.story(task) == [
        "Running(1)@w1", "Scheduled(1)@w1", "Running(1)@w1", "Scheduled(1)@w1", "Running(1)@w1", "Succeeded(1)@w1",
    ]  # fmt: skip
    log = await bed.log(task)
    assert [event.message for event in log if event.state == TaskState.SCHEDULED] == ["nap 1", "nap 2"]
    assert [event.snoozes for event in log] == [0, 1, 1, 2, 2, 2]
    await bed.is_empty()
    assert (await bed.next_beat("w1")).failed == 0


async def test_a_handler_that_cancels_its_task_tells_the_waiter_why(bed: Bed) -> None:
    @bed.app.task("resign")
    async def resign(reason: str) -> None:
        raise Cancel(reason)

    await bed.start_worker("w1")
    task = await bed.submit("resign", "the order was withdrawn")
    with pytest.raises(TaskCancelled, match="the order was withdrawn"):
        await task.result(timeout=30)
    assert await bed.story(task) == ["Running(1)@w1", "Cancelled(1)@w1"]
    assert not await bed.dead_letters()
    await bed.is_empty()


@pytest.mark.parametrize(
    ("policy", "error", "attempts"),
    [
        (RetryPolicy(max_attempts=3, initial=0.01, give_up_on=(LookupError,)), KeyError, 1),
        (RetryPolicy(max_attempts=3, initial=0.01, give_up_on=(LookupError,)), ValueError, 3),
        (RetryPolicy(max_attempts=3, initial=0.01, retry_on=(OSError,)), ConnectionError, 3),
        (RetryPolicy(max_attempts=3, initial=0.01, retry_on=(OSError,)), ValueError, 1),
        (RetryPolicy(max_attempts=3, initial=0.01), NonRetryable, 1),
    ],
)
async def test_the_kind_of_error_decides_whether_it_is_tried_again(
    bed: Bed, policy: RetryPolicy, error: type[Exception], attempts: int
) -> None:
    @bed.app.task("picky", retry=policy)
    async def picky() -> None:
        raise error("never again")

    await bed.start_worker("w1")
    task = await bed.submit("picky")
    with pytest.raises(TaskFailed, match="never again") as failure:
        await task.result(timeout=30)
    assert failure.value.attempts == attempts
    assert (await bed.log(task))[-1].reason == ("NotRetryable" if attempts == 1 else "AttemptsExhausted")


async def test_retry_after_overrides_the_policys_delay(bed: Bed) -> None:
    @bed.app.task("patient", retry=RetryPolicy(max_attempts=2, initial=300.0))
    async def patient(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise Retry("soon", after=0.05)
        return ctx.attempt

    await bed.start_worker("w1")
    assert await bed.call("patient") == 2


async def test_tasks_in_backoff_hold_neither_a_slot_nor_an_ack(bed: Bed) -> None:
    """A hundred tasks wait an hour for their second attempt: the queue is empty, the slots free, nothing unacked."""

    @bed.app.task("wait-long", retry=RetryPolicy(max_attempts=2, initial=3600.0, maximum=3600.0))
    async def wait_long() -> None:
        raise RuntimeError("in an hour")

    @bed.app.task("echo")
    async def echo(value: str) -> str:
        return value

    await bed.start_worker("w1")
    waiting = await bed.client.submit_many("mill", "wait-long", [[] for _ in range(100)])

    async def all_wait() -> bool:
        return all([(await task.status()).state == TaskState.BACKOFF for task in waiting])

    await bed.until(all_wait, "100 tasks in backoff")
    await bed.is_empty()
    stream = subjects.pool_stream(bed.queue.namespace, "mill")
    consumer: Any = await bed.transport.api(f"CONSUMER.INFO.{stream}.{subjects.consumer('default')}")
    assert (consumer["num_ack_pending"], consumer["num_pending"]) == (0, 0)

    async def free() -> bool:
        return not (await bed.next_beat("w1")).in_flight

    # Of the last task the worker hears a moment after the queue that its message is gone.
    await bed.until(free, "a heartbeat without a task")
    for task in waiting:
        assert await bed.transport.read_last(
            subjects.STREAM_DELAYED, subjects.later(bed.client.namespace, task.pool, task.id)
        )
    assert await bed.call("echo", "free") == "free"
