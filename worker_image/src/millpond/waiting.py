"""Waiting for room in a full queue: tries again, ever more rarely, until there is some or the time is over.

Owns the pauses alone. The server holds the bound and refuses; nobody is told when there is room, so a submission asks
again: at most once a second each, spread at random, so that a thousand submitters do not ask together. Nobody is
promised a turn before somebody else.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from millpond.errors import QueueFull
from millpond.spans import Span, read_wait

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0


async def until_room(wait: Span | None, send: Callable[[], Awaitable[T]]) -> T:
    """Run `send` until it is not refused with QueueFull; after `wait` seconds the last refusal is raised."""
    clock = asyncio.get_running_loop().time
    give_up, pause = clock() + (0.0 if wait is None else read_wait(wait, "wait")), FIRST_PAUSE
    while True:
        try:
            return await send()
        except QueueFull:
            left = give_up - clock()
            if left <= 0:
                raise
        # The last try is made when the time is over, not before.
        await asyncio.sleep(min(left, pause * random.uniform(0.5, 1.0)))
        pause = min(2 * pause, LONGEST_PAUSE)
