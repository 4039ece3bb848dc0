"""Waiting for an event, but not for ever.

Owns the one way to do it here. Not `asyncio.wait_for`: before Python 3.12 it swallows a cancellation that comes in the
same turn of the loop as the event (bpo-37658, gh-86296), and a loop that was told to end goes on. `asyncio.timeout`
around the waiting itself does not, and needs no task of its own.
"""

import asyncio


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set within `seconds`; it stays set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
