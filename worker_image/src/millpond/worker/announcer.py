"""Publishes the worker's transitions, in order and each one stored; Idle, Busy and Leased flip at most ten a second.

A worker of short tasks flips thousands of times a second: flips that come within a tenth of a second are published as
one event whose `flips` says how many it stands for (two events if they end where they began, so that the sequence
stays one that the state table allows). It survives an absent broker: transitions wait here and are published when it
is back.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog
from millpond_api.events import WorkerEvent, utc_now
from millpond_api.lifecycle import WorkerState

from millpond.pausing import happens
from millpond.transport import Refused, Transport
from millpond.worker.board import Board
from millpond.worker.journal import PASSING, Pause

INTERVAL = 0.1
MOST_NOTE = 8 * 1024
AT_WORK = {
    WorkerState.IDLE: "SlotsFree",
    WorkerState.BUSY: "SlotTaken",
    WorkerState.LEASED: "CheckedOut",
}
"""States between which a worker goes at any pace, each with the reason of its events."""


class Announcer:
    """The worker's state and the queue of what is still to be published about it."""

    def __init__(self, board: Board, subject: str, published: Callable[[], None]) -> None:
        self._board, self._subject, self._published = board, subject, published
        self._queue: deque[WorkerEvent] = deque()
        self._flips, self._steady = 0, board.state
        """Flips since the last event, and the state that it told."""
        self._flipped = self._via = board.state
        """The state after the last flip, and the last one that was another than the steady one."""
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def change(self, state: WorkerState, reason: str, message: str = "") -> None:
        """The worker is in `state` from now on."""
        if state == self._board.state and state != WorkerState.STARTING:
            return
        flip = state in AT_WORK and self._board.state in AT_WORK
        self._board.state = state
        if flip:
            self._flips, self._flipped = self._flips + 1, state
            self._via = state if state != self._steady else self._via
        else:
            self._fold_flips()
            self._queue.append(WorkerEvent(state=state, at=utc_now(), reason=reason, message=message))
            self._steady = state
        self._empty.clear()
        self._news.set()

    def flip(self, state: WorkerState) -> None:
        """A slot was taken or freed, by a task or a client."""
        self.change(state, AT_WORK[state])

    def note(self, reason: str, message: str, *, told: bool = False) -> None:
        """Something worth keeping that changes no state; `told` by a handler, for the operator."""
        self._fold_flips()
        said = message[:MOST_NOTE]
        self._queue.append(WorkerEvent(state=self._steady, at=utc_now(), reason=reason, message=said, told=told))
        self._empty.clear()
        self._news.set()

    async def run(self, transport: Transport) -> None:
        """Publish for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._fold_flips()
            while self._queue:
                await self._publish(transport, self._queue[0])
                self._queue.popleft()
                self._published()
            if not self._flips:
                self._empty.set()
            await asyncio.sleep(INTERVAL)

    async def flush(self, timeout: float) -> bool:
        """Whether everything was published within `timeout`."""
        return await happens(self._empty, timeout)

    def _fold_flips(self) -> None:
        """Turn the flips since the last event into one event, or two if they end where they began."""
        if not self._flips:
            return
        returned = self._flipped == self._steady
        self._queue.append(_flip(self._via, self._flips - returned))
        if returned:
            self._queue.append(_flip(self._steady, 1))
        self._steady, self._flips = self._flipped, 0

    async def _publish(self, transport: Transport, event: WorkerEvent) -> None:
        pause = Pause()
        while True:
            try:
                await transport.publish_stored(self._subject, event.encode())
                return
            except PASSING:
                await pause.wait()
            except Refused as error:
                structlog.get_logger("millpond.worker").error("a transition was refused", why=str(error))
                return


def _flip(state: WorkerState, flips: int) -> WorkerEvent:
    return WorkerEvent(state=state, at=utc_now(), reason=AT_WORK[state], flips=flips)
