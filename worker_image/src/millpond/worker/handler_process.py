"""A child process that handlers run in, as the worker sees it: a member of a pool, and a pipe to talk through.

Owns the process, its pipe and the file that it writes its stacks to. It belongs to the main loop, which hears of its
end; a conversation has a thread, because a pipe blocks. What is said is `process_run`'s, the inside is `child`.
"""

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import TypeVar

from millpond.worker import child
from millpond.worker.wards import describe_exit

T = TypeVar("T")

JOIN_TIME = 5.0
"""Seconds that a killed process may take to be gone."""


@dataclass(frozen=True)
class Death:
    """How a process ended."""

    code: int | None
    """Exit code, or minus the signal; None when the server that it was forked from ended, and took it along."""
    wanted: bool
    """We ended it: its time was over, it was worn out, or nobody wants it any more."""

    @property
    def orphaned(self) -> bool:
        return self.code is None and not self.wanted

    def describe(self, *, amid_task: bool = True) -> str:
        """What ended it."""
        when = " in the middle of the task" if amid_task else " while it ran no task"
        if self.orphaned:
            return f"the handler's process ended with the server that it was forked from,{when}"
        # The kernel out of memory kills by SIGKILL, too.
        killed = self.code == -signal.SIGKILL and amid_task
        hint = ": out of memory, most likely (see the container's memory limit)" if killed else ""
        return f"the handler's process {describe_exit(self.code)}{when}{hint}"


@dataclass(frozen=True)
class Parts:
    """What was made for one child."""

    process: ForkServerProcess
    connection: Connection
    stacks: int


class HandlerProcess:
    """One child. `closed` and `close` are what a pool expects of its members."""

    def __init__(self, slot: str, parts: Parts, threads: Executor) -> None:
        self.slot = slot
        self.process, self.connection, self.stacks = parts.process, parts.connection, parts.stacks
        self._threads, self._loop = threads, asyncio.get_running_loop()
        self.closed: asyncio.Future[Death] = self._loop.create_future()
        self.tasks = self.memory = 0
        """How many handlers it has run, and the bytes that it held after the last one."""
        self.server = 0
        """How many servers had ended when it was asked for: which one it was forked from."""
        self.task = ""
        """The task whose handler it runs."""
        self._wanted = self._talking = False
        self._loop.add_reader(self.process.sentinel, self._on_end)

    async def converse(self, talk: Callable[[], T]) -> T:
        """What `talk` returns, in a thread; meanwhile neither pipe nor file is closed. One at a time."""
        self._talking = True
        try:
            return await self._loop.run_in_executor(self._threads, talk)
        finally:
            self._talking = False
            if self.closed.done():
                self._free()

    def kill(self) -> None:
        """End it on purpose; any thread of the worker's that knows that it runs."""
        self._wanted = True
        self.process.kill()

    async def ended(self) -> Death:
        """How it ended: it has, or at least its pipe has, and then it is ended by force."""
        await asyncio.wait((self.closed,), timeout=JOIN_TIME)
        if not self.closed.done():
            self.process.kill()
        return await asyncio.shield(self.closed)

    async def close(self) -> None:
        """End it on purpose, and wait for that; one that the kernel does not let go is given up."""
        if not self.closed.done():
            self.kill()
            await asyncio.wait((self.closed,), timeout=JOIN_TIME)

    def _on_end(self) -> None:
        """Its sentinel can be read: its server has told how it ended, or is gone itself."""
        self._loop.remove_reader(self.process.sentinel)
        told = _bytes_waiting(self.process.sentinel)
        code = self.process.exitcode
        # 255 is multiprocessing's word for a server that said nothing, and an exit code like any other.
        orphaned = code == 255 and not told
        self.closed.set_result(Death(None if orphaned else code, self._wanted))
        if not self._talking:
            self._free()

    def _free(self) -> None:
        self.connection.close()
        self.process.close()
        os.close(self.stacks)


def make_parts(context: ForkServerContext, plan: Callable[[child.InheritedFd], child.Plan]) -> Parts:
    """Fork one; blocks for milliseconds, the first time until the server has imported the app. OSError, EOFError."""
    ours, theirs = context.Pipe()
    stacks = os.memfd_create("millpond-stacks")
    process = context.Process(
        target=child.serve, args=(theirs, plan(child.InheritedFd(stacks))), name="millpond-handler"
    )
    process.start()
    theirs.close()
    return Parts(process, ours, stacks)


def _bytes_waiting(number: int) -> int:
    """How much can be read: 0 when the other end was closed without a word."""
    return int(struct.unpack("i", fcntl.ioctl(number, termios.FIONREAD, b"\0" * 4))[0])
