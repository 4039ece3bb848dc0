"""One handler in a child process: what is said to it, and what it says.

Owns the conversation: the order, what the handler reports, its end, and the words in between (cancel, a soft timeout,
signals). It has a thread of its own, because a pipe blocks. It survives a child that ends at any moment; it decides
neither which child it is nor what becomes of it.
"""

import asyncio
import contextlib
import itertools
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from millpond.outcomes import Ended, make_ended
from millpond.talking import Word
from millpond.worker import child
from millpond.worker.calling import Job
from millpond.worker.handler_process import HandlerProcess

JOIN_TIME = 5.0
"""Seconds that words under way have to get into a pipe whose child has ended its handler: it reads at once."""
STACK_TIME = 0.5
"""Seconds that a child has to write its stacks: faulthandler does it in C, even while a call holds the GIL."""


class ProcessRun:
    """One handler in a child."""

    killable = True
    _numbers = itertools.count(1)

    def __init__(self, job: Job) -> None:
        self.job, self.number = job, next(self._numbers)
        self.task: asyncio.Task[None] | None = None
        """While it waits for a child."""
        self._lock = threading.Lock()
        self._child: HandlerProcess | None = None
        self._writer: _Writer | None = None
        self._killed = self._cancelled = self._begun = False

    def talk(self, found: HandlerProcess, begun: Callable[[Job], None]) -> Ended | None:
        """In a thread: hand it over, relay what is said, until the handler has ended. None: the process has."""
        try:
            if not self._begin(found):
                return make_ended(asyncio.CancelledError("ended before it began"))
            while (ended := self._listen(found, begun)) is None:
                pass
            return ended
        except (EOFError, OSError):
            return None
        finally:
            with self._lock:
                self._child, writer, self._writer = None, self._writer, None
            if writer:
                # What it still writes must not run into the next order.
                writer.stop()

    def _begin(self, found: HandlerProcess) -> bool:
        job = self.job
        order = child.Order(self.number, job.envelope.encode(), job.wrap, job.body)
        with self._lock:
            if self._killed:
                return False
            self._child = found
            found.connection.send(("run", order))
            if self._cancelled:
                found.connection.send(("cancel", self.number))
        return True

    def _listen(self, found: HandlerProcess, begun: Callable[[Job], None]) -> Ended | None:
        wait([found.connection, found.process.sentinel])
        if not found.connection.poll():
            raise EOFError
        match found.connection.recv():
            case ("began", number) if number == self.number:
                self._begun = True
                begun(self.job)
            case ("progress", number, str(text)) if number == self.number:
                self.job.control.report(text)
            case ("word", number, word) if number == self.number:
                self.job.say(word)
            case ("ended", number, Ended() as ended, int(memory)) if number == self.number:
                found.memory = memory
                return ended
        return None

    def cancel(self) -> None:
        self._cancelled = True
        self._tell(("cancel", self.number))

    def interrupt(self, error: Exception) -> None:
        self._tell(("soft", self.number, str(error)))

    def kill(self) -> None:
        if self.task:
            self.task.cancel()
        with self._lock:
            self._killed = True
            if self._child:
                self._child.kill()

    async def settle(self) -> None:
        """The next one waits for the new child by itself."""

    def tell(self, word: Word) -> bool:
        """Written by a thread of its own: a child that holds its interpreter reads nothing, and words may be many."""
        with self._lock:
            if self._child is None or not self._begun:
                return False
            self._writer = self._writer or _Writer(self._child.connection)
            self._writer.put(("word", self.number, word))
            return True

    def where(self) -> str:
        """Asked in Python first, which knows coroutines; a child that holds its interpreter is asked in C."""
        with self._lock:
            found = self._child
            if found is None or found.process.pid is None:
                return ""
            with contextlib.suppress(OSError):
                os.ftruncate(found.stacks, 0)
                os.lseek(found.stacks, 0, os.SEEK_SET)
                self._send(found, ("where", self.number))
                if text := _read_growing(found.stacks):
                    return text
                os.kill(found.process.pid, signal.SIGUSR2)
                return _read_growing(found.stacks)
        return ""

    def _tell(self, message: tuple[Any, ...]) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._child:
                self._send(self._child, message)

    def _send(self, found: HandlerProcess, message: tuple[Any, ...]) -> None:
        """Under the lock; one thread at a time may write into the pipe."""
        self._writer.put(message) if self._writer else found.connection.send(message)


class _Writer:
    """A thread that writes into a child's pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="millpond-words", daemon=True)
        self._thread.start()

    def put(self, message: tuple[Any, ...]) -> None:
        self._messages.put(message)

    def stop(self) -> None:
        """Once everything is written, or the child is gone."""
        self._messages.put(None)
        self._thread.join(JOIN_TIME)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (message := self._messages.get()) is not None:
                self._connection.send(message)


def _read_growing(number: int) -> str:
    """What is written to the file, once it has stopped growing."""
    until, size = time.monotonic() + STACK_TIME, -1
    while time.monotonic() < until:
        time.sleep(0.02)
        now = os.fstat(number).st_size
        if now and now == size:
            break
        size = now
    return os.pread(number, 16 * 1024, 0).decode(errors="replace")
