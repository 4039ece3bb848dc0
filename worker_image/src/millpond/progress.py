"""How far a task is, as it goes: the steps of its log and what its handler says in the worker's heartbeats.

Owns the merging of both into one stream. Steps are pushed by the feed; words of the handler (`ctx.progress`) come with
the heartbeats, once a second at most and only while they change. It must not write anything; what it yields is news
and not a record: of two words within a second, only the last may be seen. It survives a lost connection: a step that
was not heard is read from the log.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from millpond_api import subjects
from millpond_api.events import Beat, TaskEvent
from millpond_api.lifecycle import TERMINAL, TaskState
from millpond_api.percent import parse_percent

from millpond.pausing import happens
from millpond.transport import Message

REREAD = 5.0
"""Seconds without news until the log is read, in case a push was lost."""


@dataclass(frozen=True)
class Progress:
    """A task at one moment. `text` is what the handler said last; `percent` the number in it, if it began with one."""

    state: TaskState
    attempt: int = 1
    worker: str = ""
    text: str = ""

    @property
    def percent(self) -> float | None:
        return parse_percent(self.text)

    @property
    def finished(self) -> bool:
        return self.state in TERMINAL


def follow(before: Progress, event: TaskEvent) -> Progress:
    """The progress after a step of the log; `before` itself when the step is older."""
    if before.finished or event.attempt < before.attempt:
        return before
    state = TaskState(event.state)
    if state == TaskState.RUNNING:
        text = before.text if (event.attempt, event.worker) == (before.attempt, before.worker) else ""
        return Progress(state, event.attempt, event.worker, text)
    return Progress(state, event.attempt, event.worker or before.worker, before.text)


def hear(before: Progress, worker: str, beat: Beat, task: str) -> Progress:
    """The progress after a worker's heartbeat; `before` itself when it says nothing new of the task."""
    said = next((one for one in beat.in_flight if one.task == task), None)
    if said is None or before.finished or said.attempt < before.attempt:
        return before
    return Progress(TaskState.RUNNING, said.attempt, worker, said.progress)


class Stream:
    """The progress of one task, from now on until it has ended."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._now = Progress(TaskState.QUEUED)
        self.stale = asyncio.Event()
        """Set when there is news, or when there may have been some that was not heard."""

    async def read(self, read_log: Callable[[], Awaitable[list[TaskEvent]]]) -> AsyncIterator[Progress]:
        """See `TaskHandle.progress`. `read_log` gives the task's events so far."""
        shown: Progress | None = None
        heard = False
        while True:
            self.stale.clear()
            if not heard:
                for event in await read_log():
                    self._now = follow(self._now, event)
            if self._now != shown:
                shown = self._now
                yield shown
                if shown.finished:
                    return
            before, heard = self._now, False
            if await happens(self.stale, REREAD):
                # Woken without news: by a reconnect. What was pushed meanwhile is in the log.
                heard = self._now != before

    async def on_feed(self, message: Message) -> None:
        # What cannot be read is no event of ours: a newer release's state, or written by hand. The log is read too.
        with contextlib.suppress(ValueError):
            self._set(follow(self._now, TaskEvent.model_validate_json(message.body)))

    async def on_beat(self, message: Message) -> None:
        # A pool's heartbeats are many: only those that speak of the task are parsed.
        if self._task.encode() not in message.body:
            return
        with contextlib.suppress(ValueError):
            beat = Beat.decode(message.body)
            self._set(hear(self._now, subjects.parse_beat(message.subject).name, beat, self._task))

    def _set(self, now: Progress) -> None:
        if now != self._now:
            self._now = now
            self.stale.set()
