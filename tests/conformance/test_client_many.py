"""Many tasks at once: map keeps order and bound, gather and as_completed, and the progress of one."""

import asyncio
from collections.abc import Iterator

import pytest
from millpond import Context, ResultTimeout, TaskFailed, as_completed, gather
from millpond.errors import QueueFull

from tests.support.bed import START, Bed


def add_handlers(bed: Bed) -> None:
    @bed.app.task("double")
    async def double(number: int) -> int:
        if number < 0:
            raise ValueError(f"{number} is negative")
        return 2 * number


async def test_map_keeps_the_order_and_reads_items_only_as_there_is_room(bed: Bed) -> None:
    add_handlers(bed)
    await bed.start_worker()
    taken, most, read = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in range(100):
            read += 1
            yield number

    results = []
    async for result in bed.client.map("mill", "double", items(), in_flight=20):
        results.append(result)
        taken += 1
        most = max(most, read - taken)
    assert results == [2 * number for number in range(100)]
    assert most <= 20
    await bed.is_empty()


async def test_map_through_a_queue_that_is_smaller_than_the_window(bed: Bed) -> None:
    await bed.change_pool(max_depth=7)
    add_handlers(bed)
    await bed.start_worker()
    results = [result async for result in bed.client.map("mill", "double", range(40), in_flight=40)]
    assert results == [2 * number for number in range(40)]


async def test_map_into_a_queue_that_others_have_filled_says_so(bed: Bed) -> None:
    await bed.change_pool(max_depth=2)
    await bed.client.submit_many("mill", "double", [[1], [2]])
    with pytest.raises(QueueFull):
        async for _ in bed.client.map("mill", "double", range(3)):
            pass
    assert await bed.depth() == 2


async def test_map_raises_a_tasks_error_in_its_place(bed: Bed) -> None:
    bed.settings = {"retry": {"max_attempts": 1}}
    add_handlers(bed)
    await bed.start_worker()
    results = bed.client.map("mill", "double", [1, 2, -1, 3])
    assert [await anext(results), await anext(results)] == [2, 4]
    with pytest.raises(TaskFailed, match="-1 is negative"):
        await anext(results)
    await bed.is_empty()


async def test_gather_keeps_the_order_of_the_handles(bed: Bed) -> None:
    bed.settings = {"retry": {"max_attempts": 1}}
    add_handlers(bed)
    await bed.start_worker()
    handles = await bed.client.submit_many("mill", "double", [[3], [-1], [5]])
    assert await gather(handles[0], handles[2], timeout=START) == [6, 10]
    first, error, last = await gather(*handles, timeout=START, return_exceptions=True)
    assert (first, last, type(error)) == (6, 10, TaskFailed)
    with pytest.raises(TaskFailed):
        await gather(*handles, timeout=START)
    assert await gather() == []


async def test_as_completed_yields_what_ends_first_first(bed: Bed) -> None:
    gate = bed.gate()
    add_handlers(bed)

    @bed.app.task("late")
    async def late() -> str:
        await gate.pass_through("late")
        return "late"

    await bed.start_worker()
    slow, quick = await bed.submit("late"), await bed.submit("double", 4)
    results = []
    async for handle in as_completed([slow, quick], timeout=START):
        results.append(await handle.result(timeout=START))
        gate.open()
    assert results == [8, "late"]


async def test_as_completed_gives_up_after_the_callers_time_and_the_task_goes_on(bed: Bed) -> None:
    add_handlers(bed)
    task = await bed.submit("double", 4)
    with pytest.raises(ResultTimeout, match="it goes on"):
        async for _ in as_completed([task], timeout=0.2):
            pass
    await bed.start_worker()
    assert await task.result(timeout=START) == 8


async def test_progress_tells_the_steps_and_the_handlers_words_until_the_end(bed: Bed) -> None:
    gate = bed.gate()

    @bed.app.task("mill")
    async def grind(ctx: Context) -> str:
        ctx.progress(40, "of the corn")
        await gate.pass_through(ctx.task_id)
        return "flour"

    task = await bed.submit("mill")
    seen = []
    starting = asyncio.ensure_future(bed.start_worker("w1"))
    async for at in task.progress():
        seen.append(at)
        if at.percent == 40:
            gate.open()
    await starting
    assert (seen[0].state, seen[-1].state) == ("Queued", "Succeeded")
    assert ("Running", "40% of the corn", 40, "w1", 1) in [
        (at.state, at.text, at.percent, at.worker, at.attempt) for at in seen
    ]
    assert [at.state async for at in task.progress()] == ["Succeeded"]


async def test_progress_of_a_client_that_lost_its_connection_still_ends(bed: Bed) -> None:
    gate = bed.gate()

    @bed.app.task("mill")
    async def grind() -> str:
        await gate.pass_through("grind")
        return "flour"

    await bed.start_worker()
    other = await bed.open_client("other")
    task = await bed.submit("mill")
    states = []
    async for at in other.handle("mill", task.id).progress():
        states.append(at.state)
        if at.state == "Running" and not gate._open.is_set():
            bed.ground.refuse("other")
            gate.open()
            await task.result(timeout=START)
            bed.ground.admit("other")
    assert states[-1] == "Succeeded"
