"""The process around one worker: its understudy, its garbage collection, its signals, its last words.

Owns what a pod's worker and one outside the cluster start alike. It knows not where the settings come from; it survives
whatever the worker survives and ends with it.
"""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from millpond_api.supervision import Child
from millpond_api.supervision.pod import EXIT_CODE, REASON

from millpond.app import App
from millpond.settings import Settings
from millpond.worker.leases import Understudy
from millpond.worker.runtime import Worker
from millpond.worker.supervising import Kin

Beside = Callable[[Worker], Coroutine[Any, Any, None]]
"""Something that runs in the worker's loop for as long as the worker does."""


def run_worker(settings: Settings, app: App, beside: Beside | None = None) -> Worker:
    """The worker, once it has stopped."""
    return uvloop.run(_serve(settings, app, beside))


def leave(worker: Worker) -> int:
    """The exit code of a worker that has stopped; why its supervisor ended it is left for the pod's status."""
    why = worker.supervision.exceeded
    if not why:
        return 0
    print(f"millpond worker: {REASON}: {why}", file=sys.stderr)
    path = Path(worker.settings.termination_log)
    if path.exists():
        # Its last words are worth a try, not another failure.
        with contextlib.suppress(OSError):
            path.write_text(why)
    return EXIT_CODE


async def _serve(settings: Settings, app: App, beside: Beside | None) -> Worker:
    worker = Worker(settings, app)
    understudy = Understudy(settings, lambda why: worker.supervision.crashed("understudy", f"the understudy {why}"))
    worker.family.append(Kin(Child("understudy"), understudy, "the understudy"))
    worker.board.leases = understudy.leases
    # What is loaded by now stays: it is not looked at again by every collection. A task leaves some 40 objects behind,
    # nearly all freed by their counts, so a collection each 20,000 allocations instead of 700 finds no less.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    company = asyncio.create_task(beside(worker)) if beside else None
    await worker.run()
    if company:
        company.cancel()
        await asyncio.gather(company, return_exceptions=True)
    return worker
