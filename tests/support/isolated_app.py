"""Handlers that misbehave, in every place that a handler can run in: for the tests of timeouts and isolation."""

import asyncio
import ctypes
import logging
import os
import signal
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from millpond import App, Context, RetryPolicy, SoftTimeout

app = App()
ONCE = RetryPolicy(max_attempts=1)
MINE: ContextVar[str] = ContextVar("mine", default="nobody")


async def softly_async(ctx: Context, seconds: float = 60) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeout as error:
        # Proof that nothing of the interruption is left behind.
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return f"cleaned up: {error}"
    return "slept"


def softly(ctx: Context, seconds: float = 60) -> str:
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            time.sleep(0.01)
    except SoftTimeout as error:
        return f"cleaned up: {error}"
    return "slept"


def asleep(seconds: float = 60) -> str:
    """One call into C: a signal ends it, an asynchronous exception has to wait."""
    try:
        time.sleep(seconds)
    except SoftTimeout:
        return "woken"
    return "slept"


async def stubborn_async(seconds: float = 60) -> str:
    """Swallows every cancellation."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.5)
        except (asyncio.CancelledError, SoftTimeout):
            continue
    return "it never hears"


async def blocking_async(seconds: float = 60) -> str:
    time.sleep(seconds)  # noqa: ASYNC251  # that it blocks is the point
    return "blocked"


def stubborn(seconds: float = 60) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except SoftTimeout:
            continue
    return "it never hears"


def hold_gil(seconds: float) -> str:
    """A call into C that keeps the interpreter's lock: no other thread of the process runs."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return "held"


def crash(how: str) -> None:
    match how:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(7)
        case "memory":
            blocks = []
            while True:
                blocks.append(bytearray(1 << 20))


def whoami(ctx: Context) -> dict[str, Any]:
    """What a handler sees of its attempt, and where it runs."""
    before = MINE.get()
    MINE.set(ctx.task_id)
    logging.getLogger("app").warning("a line of the standard library")
    ctx.logger.info("a line of structlog")
    return {
        "pid": os.getpid(),
        "thread": threading.current_thread().name,
        "task": ctx.task_id,
        "attempt": ctx.attempt,
        "deadline": ctx.deadline is not None,
        "before": before,
    }


async def whoami_async(ctx: Context) -> dict[str, Any]:
    return whoami(ctx)


def heed(ctx: Context, directory: str) -> str:
    """Reports, then waits until it is cancelled."""
    ctx.progress(10, "begun")
    with (Path(directory) / "runs").open("a") as runs:
        runs.write(f"{os.environ['MILLPOND_WORKER']} {ctx.task_id} {ctx.attempt}\n")
    while not ctx.cancelled:
        time.sleep(0.02)
    (Path(directory) / "noticed").touch()
    return "stopped"


async def child_task(ctx: Context, pool: str) -> Any:
    client = await ctx.client()
    handle = await client.submit(pool, "inline.whoami-async")
    return await handle.result(timeout=60)


async def talk_async(ctx: Context) -> list[Any]:
    """Adds up what it is sent until "end", says how far it is, and keeps it for the next attempt."""
    total = await ctx.resume(default=0)
    begun = total
    ctx.query("total")(lambda: [total, os.getpid()])
    async for one in ctx.signals:
        if one.name == "end":
            await ctx.tell("TalkEnded", f"total {total}")
            return [begun, total]
        total += one.payload
        await ctx.checkpoint(total)
        ctx.progress(f"at {total}")
    raise AssertionError("signals never end")


def talk(ctx: Context) -> list[Any]:
    """The same as a plain function."""
    total = ctx.resume(default=0).result(timeout=60)
    begun = total
    ctx.query("total")(lambda: [total, os.getpid()])
    for one in ctx.signals:
        if one.name == "end":
            ctx.tell("TalkEnded", f"total {total}").result(timeout=60)
            return [begun, total]
        total += one.payload
        ctx.checkpoint(total).result(timeout=60)
        ctx.progress(f"at {total}")
    raise AssertionError("signals never end")


def stubborn_gate(ctx: Context, directory: str) -> str:
    """Hears neither soft timeouts nor cancellations; says that it runs."""
    (Path(directory) / "runs").touch()
    return stubborn(600)


async def stubborn_gate_async(ctx: Context, directory: str) -> str:
    (Path(directory) / "runs").touch()
    return await stubborn_async(600)


async def blocking_gate_async(ctx: Context, directory: str) -> str:
    (Path(directory) / "runs").touch()
    return await blocking_async(600)


async def echo_signals(ctx: Context) -> None:
    """For the bench: says on NATS when it has taken a signal, and makes room now and then."""
    ctx.query("alive")(lambda: True)
    transport = (await ctx.client()).transport
    async for one in ctx.signals:
        if one.name == "end":
            return
        if one.name == "echo":
            await transport.send(one.payload)
            if one.sequence % 500 < 2:
                await ctx.checkpoint(one.sequence)


app.task("inline.echo-signals", isolation="inline")(echo_signals)


async def recycle(ctx: Context) -> None:
    await ctx.recycle("the cache has grown too large")


app.task("recycle", retry=ONCE)(recycle)
TALKS_AGAIN = RetryPolicy(max_attempts=3, initial=0.05, jitter=0.0)
for name, talker, place in (
    ("inline.talk", talk_async, "inline"),
    ("thread.talk", talk, "thread"),
    ("thread.talk-async", talk_async, "thread"),
    ("process.talk", talk, "process"),
    ("process.talk-async", talk_async, "process"),
):
    app.task(name, isolation=place, retry=TALKS_AGAIN)(talker)  # type: ignore[arg-type]
for place in ("inline", "thread", "process"):
    for function in (
        softly_async,
        stubborn_async,
        blocking_async,
        whoami_async,
        child_task,
        stubborn_gate_async,
        blocking_gate_async,
    ):
        name = f"{place}.{function.__name__.replace('_', '-')}"
        app.task(name, isolation=place, retry=ONCE)(function)  # type: ignore[arg-type]
for place in ("thread", "process"):
    for plain in (softly, asleep, stubborn, hold_gil, crash, whoami, heed, stubborn_gate):
        app.task(f"{place}.{plain.__name__.replace('_', '-')}", isolation=place, retry=ONCE)(plain)  # type: ignore[arg-type]
