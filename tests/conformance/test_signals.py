"""Signals: stored and in order, before the task runs and while it does, once each; none to a task that has ended."""

import asyncio
from typing import Any

import pytest
from millpond import Context, MessageTooLarge, RetryPolicy, SignalsFull, SignalTimeout, TaskCancelled, TaskEnded
from millpond_api import subjects
from millpond_api.events import utc_now
from millpond_api.messages import SIGNALS_PER_TASK, SignalNote

from tests.support.bed import START, Bed, Gate

QUICK = RetryPolicy(max_attempts=3, initial=0.01, jitter=0.0)


async def nothing_is_left(bed: Bed, task: Any) -> None:
    """Of the task in both streams, soon."""
    where = bed.queue.namespace, bed.queue.pool, task.id

    async def look() -> bool:
        signals = await bed.transport.read_log(subjects.STREAM_SIGNALS, subjects.signals(*where))
        return not signals and not await bed.transport.read_log(
            subjects.STREAM_CHECKPOINTS, subjects.checkpoint(*where)
        )

    await bed.until(look, "streams without the task")


async def test_signals_before_the_start_and_while_it_runs_come_once_each_in_order(bed: Bed) -> None:
    seen: list[tuple[str, Any]] = []

    @bed.app.task("listen")
    async def listen(ctx: Context) -> str:
        async for signal in ctx.signals:
            seen.append((signal.name, signal.payload))
            if signal.name == "end":
                return str(signal.payload)
        raise AssertionError("signals never end")

    task = await bed.submit("listen")
    await task.signal("add", {"n": 1})
    await task.signal("add", {"n": 2})
    await bed.start_worker("w1")
    await bed.until(lambda: len(seen) == 2, "what was sent before the start")
    await task.signal("add", {"n": 3})
    await task.signal("end", "done")
    assert await task.result(timeout=START) == "done"
    assert seen == [("add", {"n": 1}), ("add", {"n": 2}), ("add", {"n": 3}), ("end", "done")]
    await bed.is_empty()
    await nothing_is_left(bed, task)
    with pytest.raises(TaskEnded, match=r"has ended \(Succeeded\).*'late' was not sent"):
        await task.signal("late")


async def test_a_thousand_signals_arrive_in_order_over_a_connection_that_breaks(bed: Bed) -> None:
    count = 1000

    @bed.app.task("count")
    async def collect(ctx: Context) -> list[int]:
        return [(await ctx.signals.get()).payload for _ in range(count)]

    await bed.start_worker("w1")
    task = await bed.submit("count")
    for number in range(count):
        await task.signal("n", number)
        if number == count // 2:
            bed.ground.cut("w1")
    assert await task.result(timeout=2 * START) == list(range(count))


async def test_a_plain_function_waits_for_a_name_and_takes_the_others_later(bed: Bed) -> None:
    @bed.app.task("pick")
    def pick(ctx: Context) -> list[Any]:
        second = ctx.signals.wait("b", timeout=START)
        rest = [ctx.signals.wait(timeout=START).payload for _ in range(2)]
        return [second.payload, *rest]

    await bed.start_worker("w1")
    task = await bed.submit("pick")
    for name, payload in (("a", 1), ("b", 2), ("a", 3)):
        await task.signal(name, payload)
    assert await task.result(timeout=START) == [2, 1, 3]


async def test_waiting_in_vain_says_so_and_takes_nothing_with_it(bed: Bed) -> None:
    @bed.app.task("impatient")
    async def impatient(ctx: Context) -> list[Any]:
        found: list[Any] = []
        for _ in range(2):
            try:
                await ctx.signals.get("never", timeout=0.05)
            except SignalTimeout as late:
                found.append(str(late))
        return [*found, (await ctx.signals.get()).payload]

    await bed.start_worker("w1")
    task = await bed.submit("impatient")
    await task.signal("other", "kept")
    late = "no signal 'never' has come within 0.05 s: it may still come, ask again"
    assert await task.result(timeout=START) == [late, late, "kept"]


async def test_a_signal_sent_twice_under_one_id_is_one(bed: Bed) -> None:
    @bed.app.task("count")
    async def collect(ctx: Context) -> list[Any]:
        found = []
        async for signal in ctx.signals:
            if signal.name == "end":
                return found
            found.append((signal.id, signal.payload))
        return found

    task = await bed.submit("count")
    for _ in range(3):
        await task.signal("pay", 100, id="order-7")
    await task.signal("end")
    await bed.start_worker("w1")
    assert await task.result(timeout=START) == [["order-7", 100]]


async def test_the_next_attempt_sees_all_again_without_a_checkpoint_and_the_rest_after_one(bed: Bed) -> None:
    """Three attempts: the first takes two and fails; the second takes three and keeps that; the third gets the rest."""
    seen: list[list[int]] = [[], [], []]

    @bed.app.task("hand-over", retry=QUICK)
    async def hand_over(ctx: Context) -> list[list[int]]:
        mine = seen[ctx.attempt - 1]
        before = await ctx.resume(default=0)
        for _ in range((2, 3, 2)[ctx.attempt - 1]):
            mine.append((await ctx.signals.get(timeout=START)).payload)
        if ctx.attempt == 2:
            await ctx.checkpoint(before + sum(mine))
            # Out of its order and after the checkpoint: it comes again.
            mine.append((await ctx.signals.get("last", timeout=START)).payload)
        if ctx.attempt < 3:
            raise RuntimeError("again")
        return [*seen, [before]]

    await bed.start_worker("w1")
    task = await bed.submit("hand-over")
    for number in range(1, 5):
        await task.signal("n", number)
    await task.signal("last", 5)
    assert await task.result(timeout=START) == [[1, 2], [1, 2, 3, 5], [4, 5], [6]]


async def test_what_was_taken_out_of_order_before_a_checkpoint_does_not_come_again(bed: Bed) -> None:
    @bed.app.task("by-name", retry=QUICK)
    async def by_name(ctx: Context) -> list[int]:
        if ctx.attempt == 1:
            await ctx.signals.get("b", timeout=START)
            await ctx.checkpoint("b is done")
            raise RuntimeError("again")
        return [(await ctx.signals.get(timeout=START)).payload for _ in range(2)]

    task = await bed.submit("by-name")
    for name, payload in (("a", 1), ("b", 2), ("a", 3)):
        await task.signal(name, payload)
    await bed.start_worker("w1")
    assert await task.result(timeout=START) == [1, 3]


async def test_a_task_with_too_many_signals_refuses_more_until_a_checkpoint_says_they_are_done(bed: Bed) -> None:
    gate = Gate()

    @bed.app.task("slow")
    async def slow(ctx: Context) -> int:
        for _ in range(SIGNALS_PER_TASK):
            await ctx.signals.get()
        await ctx.checkpoint("all of them")
        await gate.pass_through()
        return int((await ctx.signals.get(timeout=START)).payload)

    task = await bed.submit("slow")
    note = SignalNote(name="n", at=utc_now()).encode()
    subject = subjects.signals(bed.queue.namespace, bed.queue.pool, task.id)
    for _ in range(SIGNALS_PER_TASK // 100):
        await asyncio.gather(*(bed.transport.publish_stored(subject, note) for _ in range(100)))
    with pytest.raises(SignalsFull, match="holds 2,000 signals"):
        await task.signal("one too many")
    with pytest.raises(MessageTooLarge, match=r"payload of signal 'big' has .* bytes and may have 65,536"):
        await task.signal("big", "x" * 70_000)
    await bed.start_worker("w1")
    await bed.until(lambda: bool(gate.runs), "the checkpoint")

    async def has_room() -> bool:
        return not await bed.transport.read_log(subjects.STREAM_SIGNALS, subject)

    await bed.until(has_room, "room for more")
    await task.signal("more", 7)
    gate.open()
    assert await task.result(timeout=START) == 7


@pytest.mark.parametrize("plain", [False, True])
async def test_cancelling_ends_a_wait_for_signals(bed: Bed, plain: bool) -> None:
    waits: list[str] = []

    @bed.app.task("async")
    async def wait(ctx: Context) -> None:
        waits.append("async")
        await ctx.signals.get()

    @bed.app.task("plain")
    def wait_plain(ctx: Context) -> None:
        waits.append("plain")
        ctx.signals.wait()

    await bed.start_worker("w1")
    task = await bed.submit("plain" if plain else "async")
    await task.signal("other")
    again = await bed.submit("plain" if plain else "async")
    await bed.until(lambda: len(waits) == 2, "both waiting")
    assert await again.cancel()
    with pytest.raises(TaskCancelled):
        await again.result(timeout=START)
    await bed.is_empty()
    await bed.until(lambda: not bed.workers[0].worker.intake or not bed.workers[0].worker.intake.busy, "a free worker")
    await nothing_is_left(bed, again)
    assert await task.result(timeout=START) is None


async def test_a_signal_while_its_worker_dies_reaches_the_next_attempt(bed: Bed) -> None:
    runs: list[str] = []

    @bed.app.task("survivor")
    async def survivor(ctx: Context) -> list[Any]:
        runs.append("run")
        return [(await ctx.signals.get()).payload, (await ctx.signals.get()).payload]

    first = await bed.start_worker("w1")
    task = await bed.submit("survivor")
    await task.signal("n", 1)
    await bed.until(lambda: len(runs) == 1, "the first run")
    await bed.crash(first)
    await task.signal("n", 2)
    await bed.start_worker("w2")
    assert await task.result(timeout=START) == [1, 2]
