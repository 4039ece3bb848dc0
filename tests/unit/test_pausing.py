"""Waiting for an event within a time: a cancellation is never lost, whatever happens in the same turn."""

import asyncio

from millpond.pausing import happens


async def test_a_cancellation_in_the_turn_of_the_event_ends_the_loop_that_waits() -> None:
    event = asyncio.Event()

    async def work() -> None:
        while True:
            await happens(event, 60)
            event.clear()

    for turns in range(4):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=60)
        assert done, f"the cancellation was lost {turns} turns after the event"
        event.clear()


async def test_it_says_whether_the_event_came_and_leaves_it_set() -> None:
    event = asyncio.Event()
    assert not await happens(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await happens(event, 60)
    assert event.is_set()
