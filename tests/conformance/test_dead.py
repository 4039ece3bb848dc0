"""Dead letters: listed, put back with their history, thrown away; and a redrive that dies between any two steps."""

import asyncio
from dataclasses import dataclass

import pytest
from millpond import Context, DeadLetterNotFound, LetterFilter, QueueFull, RetryPolicy, TaskFailed, TaskHandle
from millpond.dead import DeadLetters
from millpond.letters import DeadLetter

from tests.support.bed import Bed

TWICE = RetryPolicy(max_attempts=2, initial=0.01, jitter=0.0)


@dataclass
class Mood:
    """Whether the handler fails, and how often it ran."""

    bad: bool = True
    runs: int = 0


def moody(bed: Bed) -> Mood:
    """A handler `moody` that fails while the mood is bad."""
    mood = Mood()

    @bed.app.task("moody", retry=TWICE)
    async def run(ctx: Context, value: int = 0) -> int:
        mood.runs += 1
        if mood.bad:
            raise RuntimeError(f"attempt {ctx.attempt}")
        return value

    return mood


async def fail(bed: Bed, *args: int) -> TaskHandle:
    task = await bed.submit("moody", *args)
    with pytest.raises(TaskFailed):
        await task.result(timeout=30)
    await bed.dead_letter(task.id)
    return task


async def test_a_redriven_task_runs_again_with_all_attempts_and_its_history(bed: Bed) -> None:
    mood = moody(bed)
    await bed.start_worker("w1")
    task = await fail(bed, 7)
    dead = bed.client.dead("mill")
    letter = await dead.read(task.id)
    assert (letter.task, letter.handler, letter.attempt, letter.error.type) == (task.id, "moody", 2, "RuntimeError")
    assert [one.done for one in await dead.redrive()] == ["redriven"]
    # Still in a bad mood: two attempts more, then dead again, under the next number.
    await bed.until(lambda: mood.runs == 4, "four runs")
    with pytest.raises(TaskFailed) as failure:
        await task.result(timeout=30)
    assert failure.value.attempts == 4
    await bed.until(lambda: _letters(bed, 1), "the second letter")
    mood.bad = False
    assert [one.done for one in await dead.redrive(LetterFilter(handler="moody"))] == ["redriven"]
    await bed.until(lambda: mood.runs == 5, "a fifth run")
    assert await task.result(timeout=30) == 7
    assert await bed.story(task) == [
        "Running(1)@w1", "Backoff(1)@w1", "Running(2)@w1", "Failed(2)@w1",
        "Queued(3)@", "Running(3)@w1", "Backoff(3)@w1", "Running(4)@w1", "Failed(4)@w1",
        "Queued(5)@", "Running(5)@w1", "Succeeded(5)@w1",
    ]  # fmt: skip
    assert await _letters(bed, 0)
    await bed.is_empty()


async def _letters(bed: Bed, count: int) -> bool:
    return len([letter async for letter in bed.client.dead("mill").list()]) == count


class Killed(Exception):
    """The redriver's process ends here."""


class DiesAfterCommit(DeadLetters):
    async def _publish(self, letter: DeadLetter) -> None:
        raise Killed


class DiesAfterPublish(DeadLetters):
    async def _remove(self, letter: DeadLetter) -> None:
        raise Killed


@pytest.mark.parametrize("dying", [DiesAfterCommit, DiesAfterPublish])
@pytest.mark.parametrize("worked_off", [False, True], ids=["no worker meanwhile", "run meanwhile"])
async def test_a_redrive_that_dies_between_two_steps_is_finished_by_the_next(
    bed: Bed, dying: type[DeadLetters], worked_off: bool
) -> None:
    mood = moody(bed)
    worker = await bed.start_worker("w1")
    task = await fail(bed)
    await worker.stop()
    mood.bad = False
    with pytest.raises(Killed):
        await dying(bed.client, "mill").redrive()
    assert await _letters(bed, 1)
    ran_already = worked_off and dying is DiesAfterPublish
    if worked_off:
        await bed.start_worker("w2")
    if ran_already:
        assert await task.result(timeout=30) == 0
    done = await bed.client.dead("mill").redrive()
    assert [one.done for one in done] == ["over" if ran_already else "redriven"]
    if not worked_off:
        await bed.start_worker("w2")
    assert await task.result(timeout=30) == 0
    assert mood.runs == 3
    assert await _letters(bed, 0)
    assert await bed.story(task) == [
        "Running(1)@w1", "Backoff(1)@w1", "Running(2)@w1", "Failed(2)@w1",
        "Queued(3)@", "Running(3)@w2", "Succeeded(3)@w2",
    ]  # fmt: skip
    await bed.is_empty()


async def test_two_who_redrive_at_once_put_it_back_once(bed: Bed) -> None:
    mood = moody(bed)
    await bed.start_worker("w1")
    task = await fail(bed)
    mood.bad = False
    other = await bed.open_client("other")
    first, second = await asyncio.gather(bed.client.dead("mill").redrive(), other.dead().redrive())
    assert await task.result(timeout=30) == 0
    await bed.is_empty()
    assert mood.runs == 3
    assert (await bed.story(task)).count("Queued(3)@") == 1
    assert "redriven" in {one.done for one in (*first, *second)}


async def test_a_filter_redrives_and_purges_only_what_it_means(bed: Bed) -> None:
    mood = moody(bed)
    await bed.start_worker("w1")
    tasks = [await fail(bed, value) for value in range(3)]
    dead = bed.client.dead("mill")
    gone = await dead.purge(LetterFilter(tasks=(tasks[0].id,)))
    assert [letter.task for letter in gone] == [tasks[0].id]
    with pytest.raises(DeadLetterNotFound, match="has no dead letter"):
        await dead.read(tasks[0].id)
    assert not await dead.purge(LetterFilter(error="KeyError"))
    mood.bad = False
    done = await dead.redrive(LetterFilter(tasks=(tasks[1].id,)))
    assert [one.letter.task for one in done] == [tasks[1].id]
    assert await tasks[1].result(timeout=30) == 1
    assert [letter.task async for letter in dead.list()] == [tasks[2].id]


async def test_a_full_queue_leaves_the_letter_to_be_redriven_later(bed: Bed) -> None:
    mood = moody(bed)
    worker = await bed.start_worker("w1")
    task = await fail(bed, 5)
    await worker.stop()
    await bed.change_pool(max_depth=1)
    filler = await bed.submit("moody", 1)
    with pytest.raises(QueueFull, match="redrive"):
        await bed.client.dead("mill").redrive()
    assert await _letters(bed, 1)
    mood.bad = False
    await bed.start_worker("w2")
    assert await filler.result(timeout=30) == 1
    await bed.is_empty()
    assert [one.done for one in await bed.client.dead("mill").redrive()] == ["redriven"]
    assert await task.result(timeout=30) == 5


async def test_a_message_that_is_no_task_can_be_purged_and_not_redriven(bed: Bed) -> None:
    moody(bed)
    await bed.start_worker("w1")
    await bed.transport.publish_stored(f"mp.tasks.{bed.queue.namespace}.mill.default", b"hello")
    await bed.until(lambda: _letters(bed, 1), "the letter")
    dead = bed.client.dead("mill")
    (refused,) = await dead.redrive()
    assert refused.done == "refused"
    assert "submit the task again" in refused.why
    assert len(await dead.purge()) == 1
    assert await _letters(bed, 0)


async def test_a_letter_is_kept_as_long_as_its_pool_says(bed: Bed) -> None:
    bed.settings["letter_ttl"] = 2.0
    moody(bed)
    await bed.start_worker("w1")
    task = await fail(bed)

    async def gone() -> bool:
        return not [letter async for letter in bed.client.dead("mill").list()]

    await bed.until(gone, "the end of its time")
    assert (await task.status()).state == "Failed"
