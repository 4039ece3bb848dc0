"""What the workers of the fault runs run: handlers that record each run of theirs, and workers that kill themselves.

Owns the record, an append-only file of one line for each thing that happened, written by one `write` each, so that
a SIGKILL leaves whole lines. A worker with MILLPOND_FAULT_STEP (`before claim`, `after commit`, …) kills itself at
the MILLPOND_FAULT_EVERYth time that it comes there: at the very instruction, which no signal from outside could hit.
"""

import asyncio
import contextlib
import ctypes
import itertools
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from millpond import App, Context, RetryPolicy
from millpond.worker.journal import Journal
from millpond_api.events import TaskEvent
from millpond_api.lifecycle import TaskState

RECORD, STEP, EVERY = "MILLPOND_FAULT_RECORD", "MILLPOND_FAULT_STEP", "MILLPOND_FAULT_EVERY"
PATIENT = RetryPolicy(max_attempts=100, initial=0.05, maximum=0.5)
CHUNK = 1 << 20

app = App()


def note(*words: str) -> None:
    """One line of the record."""
    number = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(number, (" ".join(words) + "\n").encode())
    finally:
        os.close(number)


@contextlib.contextmanager
def recorded(ctx: Context) -> Iterator[str]:
    """A run of a handler: its beginning, and its end if it comes to that. Yields what names the run."""
    token = uuid.uuid4().hex
    note("begin", ctx.task_id, str(ctx.attempt), os.environ["MILLPOND_WORKER"], token)
    yield token
    note("end", token)


@app.task("work", retry=PATIENT)
async def work(ctx: Context, seconds: float) -> str:
    """Waits, as a handler does that asks somebody else."""
    with recorded(ctx) as token:
        await asyncio.sleep(seconds)
    return token


@app.task("block", retry=PATIENT)
async def block(ctx: Context, seconds: float) -> str:
    """Blocks the loop of all async handlers of its worker."""
    with recorded(ctx) as token:
        if seconds:
            note("fault", os.environ["MILLPOND_WORKER"], "blocked")
            time.sleep(seconds)  # noqa: ASYNC251  # that it blocks is the point
    return token


@app.task("hog", retry=PATIENT)
def hog(ctx: Context, seconds: float) -> str:
    """Holds the interpreter's lock in C: nothing of the worker's Python runs."""
    with recorded(ctx) as token:
        if seconds:
            note("fault", os.environ["MILLPOND_WORKER"], "held")
            ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return token


@app.task("hungry", retry=PATIENT, isolation="process")
def hungry(ctx: Context, how: str) -> str:
    """Runs out of memory at its first attempt: by the pool's limit, or killed as the kernel does it."""
    with recorded(ctx) as token:
        if how and ctx.attempt == 1:
            note("fault", os.environ["MILLPOND_WORKER"], how)
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            blocks = []
            while True:
                blocks.append(bytearray(CHUNK))
    return token


def arm(step: str, every: int) -> None:
    """Let this process kill itself at the `every`th time that it comes to the step."""
    when, _, what = step.partition(" ")
    count = itertools.count(1)
    append, acknowledge = Journal.append, Journal.acknowledge

    def is_due(here: str) -> bool:
        return what == here and next(count) == every

    def die() -> None:
        note("fault", os.environ["MILLPOND_WORKER"], "killed", when, what)
        os.kill(os.getpid(), signal.SIGKILL)

    async def armed_append(self: Journal, task_id: str, event: TaskEvent, expected: int, result: bytes = b"") -> int:
        due = is_due("claim" if event.state == TaskState.RUNNING else "commit")
        if due and when == "before":
            die()
        sequence = await append(self, task_id, event, expected, result)
        if due:
            die()
        return sequence

    async def armed_acknowledge(self: Journal, reply: str) -> None:
        due = is_due("ack")
        if due and when == "before":
            die()
        await acknowledge(self, reply)
        if due:
            # An ack is not confirmed: after it is when the server has it.
            await self.transport.flush()
            die()

    Journal.append = armed_append  # type: ignore[method-assign]
    Journal.acknowledge = armed_acknowledge  # type: ignore[method-assign]


def read_record(path: Path) -> list[list[str]]:
    """The words of each whole line; none while nobody has written."""
    text = path.read_text() if path.exists() else ""
    return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]


if os.environ.get(STEP):
    arm(os.environ[STEP], int(os.environ[EVERY]))
