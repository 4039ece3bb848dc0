"""Tells the agenda which lanes hold tasks: looks at the whole queue, and a wake-up for the idle.

Owns three ways of hearing of a lane. A look (`STREAM.INFO` by subject) is answered to all workers of the pool at once,
so that the pool asks some four times a second however many workers it has. A worker that becomes idle looks once for
itself. While it is idle, the server tells one idle worker of each task that is stored in a lane (a queue group on
the wake subject). It must not pull. It survives an answer that is lost (the next look is a moment away), a wake-up that
reaches a worker whose slots are full by then (it is passed on), and a lane without a consumer (it is made).
"""

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any

from millpond_api import broker, subjects
from millpond_api.broker import QueueConfig
from millpond_api.fairness import read_counts

from millpond.transport import Message, Subscription, Transport, TransportError
from millpond.worker.agenda import Agenda, Line

LOOK, LOOK_RARELY = 0.25, 30.0
"""Seconds until a look is out of date: of a queue with lanes (0.9 ms of the server for 900 of them, so 0.4 % of a
core for a pool), and of one that had lanes once and may still get a task that was scheduled then."""
GROUP = "idle"


@dataclass(frozen=True)
class Pool:
    """Whose lanes they are. `fair`: new tasks may go into lanes, so it is looked often."""

    queue: QueueConfig
    fair: bool

    @property
    def stream(self) -> str:
        return subjects.pool_stream(self.queue.namespace, self.queue.pool)


class LaneWatch:
    """What one worker hears of its pool's lanes. `wake` is set when there may be something to ask for."""

    def __init__(self, transport: Transport, pool: Pool, agenda: Agenda, wake: asyncio.Event) -> None:
        self._transport, self._pool, self._agenda, self._wake = transport, pool, agenda, wake
        self._seen, self._asked, self._patience = -LOOK_RARELY, -LOOK_RARELY, LOOK
        self._where = (pool.queue.namespace, pool.queue.pool)
        self._answers: Subscription | None = None
        self._wakes: Subscription | None = None
        self._woken: dict[Line, str] = {}

    async def start(self) -> None:
        self._answers = await self._transport.listen(subjects.lanes_seen(*self._where), self._on_look)

    async def stop(self) -> None:
        await self.hush()
        if self._answers:
            await self._answers.close()

    async def refresh(self) -> bool:
        """Ask for a look that all workers hear, unless one was heard or asked for a moment ago; whether it was asked.

        The moment is random, so that of many workers one asks and the others hear its answer.
        """
        now = asyncio.get_running_loop().time()
        if now - max(self._seen, self._asked) < self._patience:
            return False
        self._asked = now
        return await self._transport.send(self._look_subject, self._ask, reply=subjects.lanes_seen(*self._where))

    async def listen(self) -> None:
        """Idle: hear of what is stored in a lane from now on, and look for what was stored until now."""
        if self._wakes:
            return
        self._woken.clear()
        self._wakes = await self._transport.subscribe(subjects.wake_lanes(*self._where), self._on_wake, queue=GROUP)
        try:
            answer = await self._transport.request(self._look_subject, self._ask)
        except TransportError:
            return  # the look that all share comes within a second
        self._on_look(answer)

    async def hush(self) -> None:
        """No slot is free any more: hear nothing, and pass on what others may have a slot for."""
        if not self._wakes:
            return
        wakes, self._wakes = self._wakes, None
        # Before anything is passed on, or the server might hand it back to us.
        await wakes.drain()
        for line, subject in self._woken.items():
            if self._agenda.is_ready(line):
                await self._transport.send(subject)
        self._woken.clear()

    async def ensure(self, line: Line) -> None:
        """The lane has a consumer; TransportError when it could not be made."""
        shape = broker.lane_consumer(self._pool.queue, line.task_class, line.lane)
        name = subjects.consumer(line.task_class, line.lane)
        ask = {"stream_name": self._pool.stream, "config": shape, "action": ""}
        await self._transport.api(f"CONSUMER.CREATE.{self._pool.stream}.{name}", ask)

    @property
    def _look_subject(self) -> str:
        return f"$JS.API.STREAM.INFO.{self._pool.stream}"

    @property
    def _ask(self) -> bytes:
        return json.dumps({"subjects_filter": subjects.tasks_all(*self._where)}).encode()

    def _on_look(self, message: Message) -> None:
        reply: dict[str, Any] = json.loads(message.body or b"{}")
        if "state" not in reply:
            return  # no such stream: the pulls say so
        self._seen = asyncio.get_running_loop().time()
        found = self._agenda.see({Line(*line): count for line, count in read_counts(reply).items()})
        often = self._pool.fair or self._agenda.has_lanes
        self._patience = (LOOK if often else LOOK_RARELY) * random.uniform(1.0, 2.0)
        if found:
            self._wake.set()

    async def _on_wake(self, message: Message) -> None:
        line = Line(*subjects.parse_tasks(message.subject))
        if self._wakes is None:
            await self._transport.send(message.subject)  # came after the end: for somebody else
        elif self._agenda.wake(line):
            self._woken[line] = message.subject
            self._wake.set()
