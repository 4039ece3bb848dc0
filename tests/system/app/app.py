"""Handlers that do what system tests need done to a worker: wait, fail, crash, eat memory, report, answer at length.

Owns the misbehaviour; it must not know the tests. Handlers that go wrong only once tell their runs from the task's own
log, because a killed process remembers nothing.
"""

import asyncio
import os
import time
from typing import Any

from millpond import App, Context, NonRetryable

app = App()
few = App()
"""An app without most of the handlers: what an older image would offer."""

PAGE = 1024 * 1024


@app.task("echo")
@few.task("echo")
def echo(value: Any = None) -> Any:
    return value


@app.task("sleep")
async def sleep(seconds: float, number: int = 0) -> int:
    await asyncio.sleep(seconds)
    return number


@app.task("sleep.sync")
def sleep_sync(seconds: float, number: int = 0) -> int:
    time.sleep(seconds)
    return number


@app.task("fail")
def fail(text: str) -> None:
    raise NonRetryable(text)


@app.task("fails.if.told")
def fails_if_told(number: int = 0) -> int:
    """Fails in workers that have the variable FAIL: a version with a fault."""
    if os.environ.get("FAIL"):
        raise NonRetryable("this version has a fault")
    return number


@app.task("flaky")
async def flaky(ctx: Context, good_attempt: int) -> int:
    """Fails until its attempt `good_attempt`."""
    if ctx.attempt < good_attempt:
        raise RuntimeError(f"attempt {ctx.attempt} of {good_attempt}")
    return ctx.attempt


@app.task("crash")
def crash(code: int = 3) -> None:
    os._exit(code)


@app.task("oom")
def oom() -> None:
    _eat_memory()


@app.task("oom.once")
async def oom_once(ctx: Context, pool: str) -> int:
    """Eats all memory in its first run; how often it ran in the later one."""
    runs = await _count_runs(ctx, pool)
    if runs == 1:
        await asyncio.to_thread(_eat_memory)
    return runs


@app.task("progress")
async def progress(ctx: Context, steps: int, seconds: float) -> str:
    for step in range(steps):
        ctx.progress(100 * step / steps, f"step {step} of {steps}")
        await asyncio.sleep(seconds)
    return "done"


@app.task("big")
def big(size: int) -> str:
    return "x" * size


@app.task("environment")
async def environment(name: str, seconds: float = 0.0) -> str:
    """A variable of the worker, after a while."""
    await asyncio.sleep(seconds)
    return os.environ.get(name, "")


def _eat_memory() -> None:
    """Touch every page, or the kernel would not count it."""
    eaten = []
    while True:
        eaten.append(b"x" * PAGE)


async def _count_runs(ctx: Context, pool: str) -> int:
    client = await ctx.client()
    return sum(event.state == "Running" for event in await client.handle(pool, ctx.task_id).events())
