"""The process around one worker: its understudy, its garbage collection, its signals.

Owns what a pod's worker and one outside the cluster start alike. It knows neither where the settings come from nor what
the exit code will be; it survives whatever the worker survives and ends with it.
"""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from millpond.app import App
from millpond.settings import Settings
from millpond.worker.leases import Leases, understudied
from millpond.worker.runtime import Worker

Beside = Callable[[Worker], Coroutine[Any, Any, None]]
"""Something that runs in the worker's loop for as long as the worker does."""


def run_worker(settings: Settings, app: App, beside: Beside | None = None) -> Worker:
    """The worker, once it has stopped."""
    # Before there are threads, and before anything can hold the interpreter.
    with understudied(settings) as leases:
        return uvloop.run(_serve(settings, app, leases, beside))


async def _serve(settings: Settings, app: App, leases: Leases, beside: Beside | None) -> Worker:
    worker = Worker(settings, app)
    # What is loaded by now stays: it is not looked at again by every collection. A task leaves some 40 objects behind,
    # nearly all freed by their counts, so a collection each 20,000 allocations instead of 700 finds no less.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    worker.board.leases = leases
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    company = asyncio.create_task(beside(worker)) if beside else None
    await worker.run()
    if company:
        company.cancel()
        await asyncio.gather(company, return_exceptions=True)
    return worker
