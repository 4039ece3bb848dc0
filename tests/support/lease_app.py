"""Handlers for leased workers: each call leaves its interval in a file, so that two owners at once would be seen."""

import json
import os
import time
from pathlib import Path

from millpond import App, Context

app = App()


@app.task("echo")
async def echo(value: str) -> str:
    return value


@app.task("touch")
async def touch(ctx: Context, directory: str) -> int:
    """One line when it begins and one when it ends: the lease's token, and this machine's clock."""
    assert ctx.lease is not None
    calls = ctx.lease.state["calls"] = ctx.lease.state.get("calls", 0) + 1
    with (Path(directory) / f"{os.environ['MILLPOND_WORKER']}.calls").open("a") as lines:
        for step in ("begin", "end"):
            lines.write(json.dumps([ctx.lease.token, step, time.monotonic()]) + "\n")
            lines.flush()
    return int(calls)
