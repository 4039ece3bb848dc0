"""Handlers for worker processes under test. They talk to the test through files: what they wrote, what they wait for.

`app` has them all; `lean` has only `echo`, for a pool whose image is older than its tasks.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from millpond import App, Context, NonRetryable, Retry, RetryPolicy, SoftTimeout

app = App()
lean = App()
QUICK = RetryPolicy(max_attempts=3, initial=0.05, jitter=0.0)


@lean.task("echo")
@app.task("echo")
async def echo(value: Any = None) -> Any:
    return value


@app.task("double")
def double(ctx: Context, value: int) -> int:
    ctx.progress(50, "half way")
    return value * 2


@app.task("flaky", retry=QUICK)
async def flaky(ctx: Context, succeed_at: int) -> int:
    if ctx.attempt < succeed_at:
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


@app.task("patient", retry=RetryPolicy(max_attempts=2, initial=300.0))
async def patient(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise Retry("soon", after=0.05)
    return ctx.attempt


@app.task("refuse")
def refuse() -> None:
    raise NonRetryable("this can never work")


@app.task("shout")
def shout(text: str) -> None:
    raise RuntimeError(text)


@app.task("leave")
def leave() -> None:
    raise SystemExit(3)


@app.task("huge")
async def huge(size: int) -> str:
    return "x" * size


@app.task("opaque")
async def opaque() -> object:
    return object()


@app.task("hurry", timeout=0.05, retry=RetryPolicy(max_attempts=1))
async def hurry() -> None:
    await asyncio.sleep(60)


@app.task("gate")
async def gate(ctx: Context, directory: str) -> str:
    """Says that it runs, then waits until the test opens the gate."""
    note(directory, ctx)
    ctx.progress("waiting at the gate")
    while not (Path(directory) / "open").exists():  # noqa: ASYNC110  # the test is another process
        await asyncio.sleep(0.02)
    return f"{os.environ['MILLPOND_WORKER']} attempt {ctx.attempt}"


@app.task("gate-sync")
def gate_sync(ctx: Context, directory: str) -> str:
    """The same on a thread; it looks neither at the clock nor at `ctx.cancelled`."""
    note(directory, ctx)
    while not (Path(directory) / "open").exists():
        time.sleep(0.02)
    return f"{os.environ['MILLPOND_WORKER']} attempt {ctx.attempt}"


@app.task("teller")
async def teller(ctx: Context, reason: str, message: str) -> bool:
    return await ctx.tell(reason, message)


@app.task("attentive")
def attentive(ctx: Context, directory: str) -> str:
    """A plain function that looks whether it is cancelled."""
    note(directory, ctx)
    while not ctx.cancelled:
        time.sleep(0.02)
    (Path(directory) / "noticed").touch()
    return "stopped"


@app.task("stubborn")
def stubborn(ctx: Context, directory: str) -> str:
    """Says how far it is, then waits at the gate whatever time it is told."""
    note(directory, ctx)
    ctx.progress(40, "of the corn")
    while True:
        try:
            while not (Path(directory) / "open").exists():
                time.sleep(0.02)
        except SoftTimeout:
            continue
        else:
            return "ground"


@app.task("block")
async def block(seconds: float) -> str:
    """Blocks the event loop of all async handlers, as no async handler should."""
    time.sleep(seconds)  # noqa: ASYNC251  # that it blocks is the point
    return "done"


@app.task("die")
def die() -> None:
    os._exit(9)


@app.task("parent")
async def parent(ctx: Context, pool: str) -> Any:
    client = await ctx.client()
    handle = await client.submit(pool, "echo", ["from the child"])
    return await handle.result(timeout=60)


def note(directory: str, ctx: Context) -> None:
    """One line for each run: which worker, which attempt."""
    with (Path(directory) / "runs").open("a") as runs:
        runs.write(f"{os.environ['MILLPOND_WORKER']} {ctx.task_id} {ctx.attempt}\n")
