"""Messages whose handler this worker does not have: laid aside under lease, handed on when another worker has it.

Owns where such a message waits. It takes no slot and does not count as work of this worker, so the worker can go on,
drain and be replaced; it is never discarded. What is heard of other workers' catalogues decides: nobody has the
handler: it lies here and is handed back the moment that somebody announces it; somebody has it: it goes back after
a short, growing delay, because the server may hand it to us again. It survives a broken connection (it forgets, the
leases run out), a lost announcement (each message goes back once a minute anyway) and a SIGKILL (the same leases).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from millpond.worker.board import Board
from millpond.worker.delivery import NAK, nak_after

ROOM = 256
"""Messages that lie here at most: each costs a lease to prolong; the others come back after a delay."""
KEPT = 60.0
"""Seconds after which a message goes back by itself: its task may have been cancelled, or have expired."""
LOOK = 5.0
MISSING_DELAY, MISSING_DELAY_MOST = 5.0, 60.0
"""A message for which there is no room comes back after 5 s, later each time, at most every 60 s."""
HANDED_ON, TRIES = 0.1, 14
"""Seconds of the first delay where somebody else has the handler, and deliveries after which that is not believed any
more: their delays add up to about a minute, and an idle worker with the handler takes it within a few."""
HEARD_FOR = 7200.0
"""Seconds that an announcement counts: it is repeated every hour."""


@dataclass(slots=True)
class Laid:
    """A message on the shelf: how it is answered, what it wants and since when it lies."""

    reply: str
    handler: str
    since: float


def decide_delay(count: int, *, elsewhere: bool, room: bool) -> float | None:
    """Seconds after which the `count`th delivery goes back; None: it is laid on the shelf. Pure.

    `elsewhere`: another worker has said that it has the handler.
    """
    if elsewhere and count < TRIES:
        return HANDED_ON * 1.5 ** (count - 1)
    if room:
        return None
    return min(MISSING_DELAY * 1.5 ** (min(count, 20) - 1), MISSING_DELAY_MOST)


class Shelf:
    """The shelf of one worker, in the main loop. `answer(reply, word)` answers a message."""

    def __init__(self, board: Board, answer: Callable[[str, bytes], Awaitable[object]]) -> None:
        self._board, self._answer = board, answer
        self._laid: dict[int, Laid] = {}
        self._heard: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._laid)

    async def take(self, sequence: int, reply: str, handler: str, count: int) -> float | None:
        """Keep the message, or give it back after a delay: that many seconds, None when it stays."""
        now = time.monotonic()
        elsewhere = now - self._heard.get(handler, -HEARD_FOR) < HEARD_FOR
        delay = decide_delay(count, elsewhere=elsewhere, room=len(self._laid) < ROOM)
        if delay is not None:
            await self._answer(reply, nak_after(delay))
            return delay
        known = self._laid.pop(sequence, None)
        if known:
            self._board.shelved.pop(known.reply, None)
        self._laid[sequence] = Laid(reply, handler, now)
        self._board.shelved[reply] = None
        return None

    async def hear(self, handlers: set[str]) -> None:
        """Workers of the pool have these: what waits for one of them goes back now."""
        now = time.monotonic()
        self._heard.update(dict.fromkeys(handlers, now))
        self._board.missing.forget(handlers)
        await self._give_back([number for number, one in self._laid.items() if one.handler in handlers])

    async def empty(self) -> None:
        """Give everything back: the worker takes nothing more."""
        await self._give_back(list(self._laid))

    def forget(self) -> None:
        """The connection was lost: leases may have run out, and answers would hit who runs a message now."""
        self._laid.clear()
        self._board.shelved.clear()

    async def run(self) -> None:
        """Give back what has lain for a minute, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            oldest = time.monotonic() - KEPT
            await self._give_back([number for number, one in self._laid.items() if one.since < oldest])

    async def _give_back(self, numbers: list[int]) -> None:
        laid = [self._laid.pop(number) for number in numbers if number in self._laid]
        for one in laid:
            self._board.shelved.pop(one.reply, None)
        await asyncio.gather(*(self._answer(one.reply, NAK) for one in laid))
