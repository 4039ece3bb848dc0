"""Keeps the times of one attempt: the soft timeout, the silence after it, the hard timeout.

Owns those timers, in the main loop. Busy is told from hung by progress: a handler that runs past its soft timeout and
has said nothing for that long is hung, until it says something. It decides nothing about the task: it interrupts, it
reports, it ends by force.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from millpond.errors import HardTimeout, SoftTimeout
from millpond.outcomes import Ended, make_ended
from millpond.worker.calling import Job, Run
from millpond.worker.stacks import innermost_line

LEAST_SILENCE, MOST_SILENCE = 0.5, 30.0
"""Seconds after a soft timeout (as long as the timeout itself, within these) that a handler may take to end."""


@dataclass(frozen=True)
class Hooks:
    """What the attempt does about it."""

    hung: Callable[[str, str], None]
    """Where it hangs (file, line, function) and the whole stack; both empty when it moves again."""
    overdue: Callable[[Ended], None]
    """Its time is over: however it ends from now on, this is how it ended."""
    ended: Callable[[Ended], None]
    """It was ended by force, and its place can take another one."""


class Watch:
    """The timers of one running handler."""

    def __init__(self, job: Job, run: Run, hooks: Hooks) -> None:
        self._job, self._run, self._hooks = job, run, hooks
        self._loop = asyncio.get_running_loop()
        self._heard = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._work: set[asyncio.Task[None]] = set()
        self._stopped = self._hung = False
        soft, hard = job.limits.soft, job.limits.hard
        if soft is not None:
            self._after(soft, self._on_soft)
        if hard is not None:
            self._after(hard, lambda: self._spawn(self._on_hard(hard)))

    def stop(self) -> None:
        self._stopped = True
        for timer in self._timers:
            timer.cancel()

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, call))

    def _on_soft(self) -> None:
        soft = self._job.limits.soft
        assert soft is not None
        self._heard = self._job.control.reports
        self._run.interrupt(SoftTimeout(f"the handler has run for {soft:g} s, its soft timeout"))
        silence = min(max(soft, LEAST_SILENCE), MOST_SILENCE)
        self._after(silence, lambda: self._look(silence))

    def _look(self, silence: float) -> None:
        """Whether it has said anything lately; again after each silence."""
        quiet, self._heard = self._job.control.reports == self._heard, self._job.control.reports
        if quiet != self._hung:
            self._hung = quiet
            self._spawn(self._on_hung()) if quiet else self._hooks.hung("", "")
        self._after(silence, lambda: self._look(silence))

    async def _on_hung(self) -> None:
        stack = await self._where()
        if not self._stopped and self._hung:
            self._hooks.hung(innermost_line(stack, self._job.handler.function), stack)

    async def _on_hard(self, hard: float) -> None:
        stack = await self._where()
        if self._stopped:
            return
        ended = make_ended(HardTimeout(f"the handler ran longer than its timeout of {hard:g} s and was ended by force"))
        assert ended.error is not None
        ended = replace(ended, error=ended.error.model_copy(update={"traceback": stack}))
        self._hooks.overdue(ended)
        self._run.kill()
        await self._run.settle()
        self._hooks.ended(ended)

    async def _where(self) -> str:
        # A child process is asked and takes its time to answer; our own threads are read.
        return await asyncio.to_thread(self._run.where) if self._run.killable else self._run.where()

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._work.add(task)
        task.add_done_callback(self._work.discard)
