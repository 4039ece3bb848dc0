"""Results: in the event or in the object store, in the codec of the task, and there when the client comes back."""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from millpond import Context, TaskCancelled, TaskFailed
from millpond.client import Client
from millpond.errors import CodecRefused, ResultExpired, ResultTimeout
from millpond.handle import TaskHandle
from millpond.packing import Habits
from millpond.transport import Stored
from millpond_api import subjects

from tests.support.bed import START, Bed

LARGE = 3 * 1024 * 1024


async def objects(bed: Bed) -> list[Stored]:
    """Every chunk that the store holds for the bed's pool."""
    subject = subjects.stored_objects(bed.queue.namespace, bed.queue.pool)
    return [chunk async for chunk in bed.transport.read_range(subjects.STREAM_OBJECTS, subject)]


def fill(size: int) -> str:
    """0000000000 0000000001 …, so that no two chunks are the same."""
    return "".join(f"{number:010d}" for number in range(size // 10 + 1))[:size]


def add_filler(bed: Bed) -> None:
    bed.app.task("fill")(fill)


async def last(task: TaskHandle) -> Any:
    return (await task.events())[-1]


async def test_small_result_is_in_the_event_and_a_large_one_is_named_by_it(bed: Bed) -> None:
    add_filler(bed)
    bed.client.habits = Habits()
    await bed.start_worker()
    small, large = await bed.submit("fill", 1000), await bed.submit("fill", LARGE)
    assert await small.result(timeout=START) == (await last(small)).result
    assert (await last(small)).parcel is None
    assert await large.result(timeout=START) == fill(LARGE)
    event = await last(large)
    assert event.result is None
    assert (event.parcel.object.partition(".")[0], event.parcel.size) == (large.id, LARGE + 2)
    assert event.parcel.expires > datetime.now(UTC)
    assert sum(len(chunk.body) for chunk in await objects(bed)) == event.parcel.stored


async def test_pool_sets_from_which_size_a_result_is_an_object(bed: Bed) -> None:
    add_filler(bed)
    await bed.start_worker(results={"inline_max": 100, "ttl": 60})
    under, over = await bed.submit("fill", 98), await bed.submit("fill", 99)
    for task, size in ((under, 98), (over, 99)):
        assert len(await task.result(timeout=START)) == size
    assert (await last(under)).parcel is None
    assert (await last(over)).parcel.object


async def test_result_that_was_kept_long_enough_says_that_it_is_gone(bed: Bed) -> None:
    add_filler(bed)
    await bed.start_worker(results={"inline_max": 100, "ttl": 1})
    task = await bed.submit("fill", 200)
    await bed.until(lambda: ended(task), "the end")

    async def gone() -> bool:
        return not await objects(bed)

    await bed.until(gone, "the object's end")
    with pytest.raises(ResultExpired, match=r"kept for a limited time.*results\.ttl of pool mill"):
        await task.result(timeout=START)


async def test_handler_says_itself_how_long_its_results_are_kept(bed: Bed) -> None:
    bed.app.task("brief", result_ttl=30)(fill)
    add_filler(bed)
    await bed.start_worker(results={"inline_max": 100, "ttl": 600})
    for handler, seconds in (("brief", 30), ("fill", 600)):
        task = await bed.submit(handler, 200)
        await task.result(timeout=START)
        event = await last(task)
        assert (event.parcel.expires - event.at).total_seconds() == seconds


async def ended(task: TaskHandle) -> bool:
    return (await task.status()).finished


@pytest.mark.parametrize("codec", ["msgpack", "cbor"])
async def test_codec_of_the_task_carries_what_json_cannot(bed: Bed, codec: str) -> None:
    seen: list[Any] = []

    @bed.app.task("echo")
    async def echo(value: Any) -> Any:
        seen.append(value)
        return value

    await bed.start_worker()
    value = {"raw": b"\x00\xff", "at": datetime(2026, 5, 1, tzinfo=UTC), "n": 1.5}
    assert await bed.call("echo", value, codec=codec) == value
    assert seen == [value]
    many = {"raw": bytes(range(256)) * 1024}
    assert await bed.call("echo", many, codec=codec) == many


async def test_pickle_needs_both_sides(bed: Bed) -> None:
    ran: list[Any] = []

    @bed.app.task("echo")
    async def echo(value: Any) -> Any:
        ran.append(value)
        return value

    worker = await bed.start_worker("w1")
    with pytest.raises(CodecRefused, match=r"Client\.connect\(pickle=True\)"):
        await bed.submit("echo", {1, 2}, codec="pickle")
    trusting = Client(bed.transport, bed.client.namespace, Habits(pickle=True, codec="pickle"))
    refused = await trusting.submit("mill", "echo", [{1, 2}])
    with pytest.raises(TaskFailed) as failure:
        await refused.result(timeout=START)
    assert (failure.value.type, failure.value.attempts, ran) == ("CodecRefused", 1, [])
    await worker.stop()

    await bed.start_worker("w2", results={"pickle": True})
    taken = await trusting.submit("mill", "echo", [{1, 2}])
    assert await taken.result(timeout=START) == {1, 2}
    with pytest.raises(CodecRefused):
        await bed.client.handle("mill", taken.id).result(timeout=START)


async def test_large_values_travel_compressed_when_both_sides_can(bed: Bed) -> None:
    @bed.app.task("swap")
    def swap(text: str, size: int) -> str:
        return f"{len(text)}" + "y" * size

    await bed.start_worker()
    bed.client.habits = Habits(zip="zstd")
    task = await bed.submit("swap", "x" * 2_000_000, 300_000)
    assert await task.result(timeout=START) == "2000000" + "y" * 300_000
    event = await last(task)
    assert (event.parcel.zip, event.parcel.object, event.parcel.size) == ("zstd", "", 300_009)
    bed.client.habits = Habits()
    plain = await bed.submit("swap", "x", 300_000)
    assert len(await plain.result(timeout=START)) == 300_001
    assert (await last(plain)).parcel.zip == ""


async def test_large_result_of_a_fenced_attempt_is_named_by_nobody_and_has_a_time_to_live(bed: Bed) -> None:
    gate = bed.gate()

    @bed.app.task("late")
    async def late(ctx: Context) -> str:
        # It is told, and returns all the same.
        with contextlib.suppress(asyncio.CancelledError):
            await gate.pass_through(ctx.task_id)
        return "x" * LARGE

    await bed.start_worker()
    task = await bed.submit("late")
    await bed.until(lambda: gate.runs, "the handler")
    assert await task.cancel("no longer wanted")
    gate.open()
    with pytest.raises(TaskCancelled):
        await task.result(timeout=START)
    await bed.is_empty()
    assert [event.state for event in await task.events()] == ["Running", "Cancelled"]
    assert all(event.parcel is None for event in await task.events())
    assert all(subjects.HEADER_TTL in chunk.headers for chunk in await objects(bed))


async def test_client_that_waits_while_the_broker_is_killed_gets_its_large_result(own_bed: Bed) -> None:
    gate = own_bed.gate()

    @own_bed.app.task("slow")
    async def slow() -> str:
        await gate.pass_through("slow")
        return "x" * LARGE

    await own_bed.start_worker()
    task = await own_bed.submit("slow")
    await own_bed.until(lambda: gate.runs, "the handler")
    waiting = asyncio.ensure_future(task.result(timeout=START))
    await own_bed.ground.stop_broker(hard=True)
    gate.open()
    await own_bed.ground.start_broker()
    assert await waiting == "x" * LARGE


async def test_client_that_lost_its_own_connection_gets_its_result(bed: Bed) -> None:
    add_filler(bed)
    other = await bed.open_client("other")
    handle = other.handle("mill", "mine")
    waiting = asyncio.ensure_future(handle.result(timeout=START))
    bed.ground.refuse("other")
    await bed.start_worker()
    await bed.submit("fill", LARGE, task_id="mine")
    await bed.until(lambda: ended(bed.client.handle("mill", "mine")), "the end, unheard by the other client")
    bed.ground.admit("other")
    assert len(await waiting) == LARGE


async def test_an_outage_between_the_end_and_the_reading_of_it_costs_the_waiter_time_only(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_filler(bed)
    await bed.start_worker()
    await bed.submit("fill", 10, task_id="mine")
    other = await bed.open_client("other")
    read_log = other.transport.read_log

    async def cut_off(stream: str, subject: str) -> list[Stored]:
        """The first read of the log finds no connection, which is back for the second."""
        monkeypatch.undo()
        bed.ground.refuse("other")
        try:
            return await read_log(stream, subject, timeout=0.1)
        finally:
            bed.ground.admit("other")

    monkeypatch.setattr(other.transport, "read_log", cut_off)
    assert (await other.handle("mill", "mine").wait(timeout=START)).state == "Succeeded"


async def test_a_wait_through_an_outage_ends_with_the_callers_time(bed: Bed) -> None:
    other = await bed.open_client("other")
    bed.ground.refuse("other")
    with pytest.raises(ResultTimeout, match=r"within 0\.5 s"):
        await other.handle("mill", "nobody").wait(timeout=0.5)
