"""Checkpoints: the next attempt goes on from the last one, however this one ended; a stale attempt writes none."""

import asyncio
from typing import Any

import pytest
from millpond import CheckpointRefused, Context, MessageTooLarge, RetryPolicy, Snooze, TaskFailed
from millpond_api import subjects
from millpond_api.events import utc_now
from millpond_api.messages import CheckpointNote

from tests.support.bed import START, Bed, Gate

QUICK = RetryPolicy(max_attempts=3, initial=0.01, jitter=0.0)


async def stands(bed: Bed, task: Any) -> CheckpointNote | None:
    """The task's checkpoint."""
    subject = subjects.checkpoint(bed.queue.namespace, bed.queue.pool, task.id)
    stored = await bed.transport.read_last(subjects.STREAM_CHECKPOINTS, subject)
    return CheckpointNote.decode(stored.body) if stored else None


async def is_gone(bed: Bed, task: Any) -> None:
    """The task's checkpoint, soon."""

    async def look() -> bool:
        return await stands(bed, task) is None

    await bed.until(look, "no checkpoint")


@pytest.mark.parametrize("plain", [False, True])
async def test_a_retry_goes_on_where_the_last_checkpoint_was(bed: Bed, plain: bool) -> None:
    @bed.app.task("async", retry=QUICK)
    async def climb(ctx: Context) -> int:
        step: int = await ctx.resume(default=0)
        await ctx.checkpoint(step + 1)
        if ctx.attempt < 3:
            raise RuntimeError("again")
        return step + 1

    @bed.app.task("plain", retry=QUICK)
    def climb_plain(ctx: Context) -> int:
        step: int = ctx.resume(default=0).result(timeout=START)
        ctx.checkpoint(step + 1).result(timeout=START)
        if ctx.attempt < 3:
            raise RuntimeError("again")
        return step + 1

    await bed.start_worker("w1")
    task = await bed.submit("plain" if plain else "async")
    assert await task.result(timeout=START) == 3
    await bed.is_empty()
    await is_gone(bed, task)


async def test_a_snooze_keeps_the_checkpoint(bed: Bed) -> None:
    @bed.app.task("nap")
    async def nap(ctx: Context) -> str:
        found = await ctx.resume()
        if found is None:
            await ctx.checkpoint({"naps": [1]})
            raise Snooze(0.05)
        return f"{found} in attempt {ctx.attempt}"

    await bed.start_worker("w1")
    assert await bed.call("nap") == "{'naps': [1]} in attempt 1"


async def test_a_release_at_drain_keeps_the_checkpoint(bed: Bed) -> None:
    gate = Gate()

    @bed.app.task("long")
    async def long(ctx: Context) -> str:
        found: str | None = await ctx.resume()
        if found:
            return found
        await ctx.checkpoint("half")
        await gate.pass_through()
        return "all of it"

    first = await bed.start_worker("w1")
    task = await bed.submit("long")
    await bed.until(lambda: bool(gate.runs), "the checkpoint")
    await first.stop(hurry=True)
    await bed.start_worker("w2")
    assert await task.result(timeout=START) == "half"


async def test_a_failed_task_goes_on_from_its_checkpoint_after_a_redrive(bed: Bed) -> None:
    @bed.app.task("twice", retry=RetryPolicy(max_attempts=1))
    async def twice(ctx: Context) -> str:
        found: str | None = await ctx.resume()
        if found:
            return found
        await ctx.checkpoint("what was done")
        raise RuntimeError("fails")

    await bed.start_worker("w1")
    task = await bed.submit("twice")
    with pytest.raises(TaskFailed):
        await task.result(timeout=START)
    await bed.dead_letter(task.id)
    kept = await stands(bed, task)
    assert kept is not None
    assert kept.attempt == 1
    await bed.client.dead(bed.queue.pool).redrive()

    async def redriven() -> bool:
        return (await task.status()).state == "Succeeded"

    await bed.until(redriven, "the redriven task")
    assert await task.result(timeout=START) == "what was done"
    await bed.is_empty()
    await is_gone(bed, task)


async def test_a_worker_that_is_cut_off_loses_its_say_once_the_next_attempt_has_resumed(bed: Bed) -> None:
    """The first attempt lives on behind a broken line; when that is back, its checkpoint changes nothing."""
    gate, zombie = Gate(), Gate()
    refused: list[str] = []

    @bed.app.task("contested")
    async def contested(ctx: Context) -> str:
        found: str | None = await ctx.resume()
        if found is None:
            await ctx.checkpoint("by the first")
            await gate.pass_through("first")
            try:
                await ctx.checkpoint("by a zombie")
            except CheckpointRefused as error:
                refused.append(str(error))
                raise
            return "zombie"
        await zombie.pass_through("second")
        return found

    await bed.start_worker("w1")
    task = await bed.submit("contested")
    await bed.until(lambda: bool(gate.runs), "the first checkpoint")
    bed.ground.silence("w1")
    await bed.start_worker("w2")
    await bed.until(lambda: bool(zombie.runs), "the second attempt")
    bed.ground.resume("w1")
    bed.ground.cut("w1")
    gate.open()
    await bed.until(lambda: bool(refused), "the zombie's refusal")
    assert "at w2 goes on from this task's last checkpoint" in refused[0]
    note = await stands(bed, task)
    assert note is not None
    assert note.worker == "w2"
    zombie.open()
    assert await task.result(timeout=START) == "by the first"


async def test_a_checkpoint_that_is_too_large_is_refused_and_the_handler_goes_on(bed: Bed) -> None:
    @bed.app.task("big")
    async def big(ctx: Context) -> str:
        try:
            await ctx.checkpoint("x" * 600_000)
        except MessageTooLarge as error:
            return str(error)
        return "stored"

    await bed.start_worker("w1")
    assert await bed.call("big") == (
        "the checkpoint has 600,002 bytes and may have 524,288: store it elsewhere and pass on where it is"
    )


async def test_checkpoints_of_one_attempt_are_stored_in_the_order_in_which_they_were_made(bed: Bed) -> None:
    @bed.app.task("many", retry=QUICK)
    async def many(ctx: Context) -> Any:
        if ctx.attempt == 2:
            return await ctx.resume()
        await asyncio.gather(*(ctx.checkpoint(number) for number in range(20)))
        raise RuntimeError("again")

    await bed.start_worker("w1")
    assert await bed.call("many") == 19


async def test_a_checkpoint_that_nobody_can_read_is_none(bed: Bed) -> None:
    @bed.app.task("careful")
    async def careful(ctx: Context) -> Any:
        before = await ctx.resume(default="nothing")
        await ctx.checkpoint("mine")
        return [before, await ctx.resume()]

    task_id = "t-garbage"
    where = bed.queue.namespace, bed.queue.pool, task_id
    await bed.transport.publish_stored(subjects.checkpoint(*where), b"junk")
    await bed.start_worker("w1")
    assert await bed.call("careful", task_id=task_id) == ["nothing", "mine"]


async def test_a_broker_that_restarts_amid_a_checkpoint_costs_time_and_no_state(own_bed: Bed) -> None:
    bed, gate = own_bed, Gate()

    @bed.app.task("patient", retry=QUICK)
    async def patient(ctx: Context) -> Any:
        if ctx.attempt == 2:
            return await ctx.resume()
        await ctx.checkpoint("before")
        await gate.pass_through()
        await ctx.checkpoint("after")
        raise RuntimeError("again")

    await bed.start_worker("w1")
    task = await bed.submit("patient")
    await bed.until(lambda: bool(gate.runs), "the first checkpoint")
    await bed.ground.stop_broker()
    gate.open()
    await bed.ground.start_broker()
    assert await task.result(timeout=2 * START) == "after"


async def test_a_stale_claim_is_refused_before_anything_is_written(bed: Bed) -> None:
    """A note of a later attempt stands (as if written by a newer claim): this attempt neither resumes nor writes."""
    refused: list[str] = []

    @bed.app.task("late", retry=RetryPolicy(max_attempts=1))
    async def late(ctx: Context) -> None:
        for act in (ctx.resume, lambda: ctx.checkpoint("mine")):
            try:
                await act()
            except CheckpointRefused as error:
                refused.append(str(error))

    task_id = "t-late"
    where = bed.queue.namespace, bed.queue.pool, task_id
    newer = CheckpointNote(claim=10**12, attempt=7, worker="w9", at=utc_now())
    await bed.transport.publish_stored(subjects.checkpoint(*where), newer.encode())
    await bed.start_worker("w1")
    await bed.call("late", task_id=task_id)
    assert len(refused) == 2
    assert "attempt 7 at w9 goes on" in refused[1]
