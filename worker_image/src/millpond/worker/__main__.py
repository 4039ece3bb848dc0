"""`python -m millpond.worker`: reads the environment, imports the app, runs the worker, ends with a clear exit code.

0: stopped as asked. 2: the environment or the app is wrong (one sentence on stderr says what); starting it again
without a change would not help.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import traceback

import uvloop

from millpond.app import App
from millpond.settings import Settings, SettingsError, read_settings
from millpond.worker.leases import Leases, understudied
from millpond.worker.loading import AppNotLoadable, load_app
from millpond.worker.logs import configure_logging
from millpond.worker.runtime import Worker

MISCONFIGURED = 2


def main() -> int:
    """The exit code."""
    configure_logging()
    try:
        settings = read_settings()
    except SettingsError as error:
        print(f"millpond worker: {error}", file=sys.stderr)
        return MISCONFIGURED
    try:
        app = load_app(settings.app)
    except AppNotLoadable as error:
        if error.__cause__:
            traceback.print_exception(error.__cause__)
        print(f"millpond worker: MILLPOND_APP={settings.app}: {error}", file=sys.stderr)
        return MISCONFIGURED
    # Before there are threads, and before anything can hold the interpreter.
    with understudied(settings) as leases:
        uvloop.run(_serve(settings, app, leases))
    return 0


async def _serve(settings: Settings, app: App, leases: Leases) -> None:
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
    await worker.run()


def _exit(code: int) -> None:
    """Leave even if an abandoned handler still runs: joining its thread could take for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _exit(main())
