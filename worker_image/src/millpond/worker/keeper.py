"""Keeps the leases of everything that is ours and says that we live: on a thread and a connection of its own.

So a main loop or a processor that is busy neither loses a task nor looks dead. It reads the board and decides nothing;
what it sends is dropped while NATS is away and sent at once when it is back.
"""

import asyncio
import time
from dataclasses import dataclass, replace

from millpond_api.events import Beat, utc_now

from millpond.pausing import happens
from millpond.transport import Hooks, Transport
from millpond.worker.board import Board
from millpond.worker.delivery import IN_PROGRESS
from millpond.worker.hosts import Host

CALM_AFTER = 3
CALM_FACTOR = 3
"""After three beats that said nothing new they come three times more rarely: most of a large pool's workers are idle
or amid a long task, and the operator hears all of them."""
TICK = 1.0
"""Seconds between signs of life of this thread itself, which /healthz looks at."""


@dataclass(frozen=True)
class KeeperPlan:
    """Where to connect and how often to do what. A lease is prolonged three times before it could run out."""

    url: str
    name: str
    beat_subject: str
    lease: float
    beat: float


class Keeper:
    """`poke` sends a heartbeat now, `stop` sends the last one."""

    def __init__(self, plan: KeeperPlan, board: Board, host: Host) -> None:
        self._plan, self._board, self._host = plan, board, host
        self._beat_now, self._renew_now = asyncio.Event(), asyncio.Event()
        self._stopping = asyncio.Event()
        self._said: Beat | None = None
        self._unchanged = 0

    def start(self) -> None:
        self._host.start(self._main)

    def poke(self) -> None:
        """Send a heartbeat at once; any thread."""
        self._host.post(self._beat_now.set)

    async def stop(self, timeout: float = 3.0) -> None:
        """Send the last heartbeat and end."""
        self._host.post(self._stopping.set)
        await self._host.join(timeout)

    async def _main(self) -> None:
        work = asyncio.gather(self._keep(), self._tick())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            stopping.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)

    async def _keep(self) -> None:
        hooks = Hooks(reconnected=self._hurry)
        transport = await Transport.connect(self._plan.url, f"{self._plan.name} keeper", hooks=hooks)
        try:
            await asyncio.gather(self._renew(transport), self._beat(transport))
        finally:
            self._look()
            await self._send_beat(transport)
            await transport.close()

    def _hurry(self) -> None:
        """After an outage every lease is nearly over."""
        self._renew_now.set()
        self._beat_now.set()

    async def _renew(self, transport: Transport) -> None:
        while True:
            for reply in (*tuple(self._board.leases), *tuple(self._board.shelved)):
                await transport.send(reply, IN_PROGRESS)
            await _wait(self._renew_now, self._plan.lease / 3)

    async def _beat(self, transport: Transport) -> None:
        asked = True
        while True:
            if self._look() or asked:
                await self._send_beat(transport)
            asked = await _wait(self._beat_now, self._plan.beat)

    def _look(self) -> bool:
        """Whether a beat is due: something is new, or was lately, or it is time for a sign of life."""
        beat = self._board.make_beat(utc_now())
        if self._said is None or replace(beat, at=self._said.at) != self._said:
            self._said, self._unchanged = beat, 0
        else:
            self._unchanged += 1
        return self._unchanged <= CALM_AFTER or self._unchanged % CALM_FACTOR == 0

    async def _send_beat(self, transport: Transport) -> None:
        """The same bytes as long as nothing changes: who hears them knows without parsing."""
        if self._said is not None:
            self._board.leases.say(self._said.encode())
            await transport.send(self._plan.beat_subject, self._said.encode())

    async def _tick(self) -> None:
        while True:
            self._board.keeper_tick = time.monotonic()
            self._board.leases.tick()
            await asyncio.sleep(min(TICK, self._plan.lease / 12))


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Until the event (True; it is cleared) or the time, whichever comes first."""
    happened = await happens(event, seconds)
    if happened:
        event.clear()
    return happened
