"""The live picture: one thread per watched kind, one loop that draws at most four times a second.

Owns threads and timing; `view` owns what is shown. Many changes between two drawings cost one drawing. It survives an
API server that goes away (the picture says so and goes on) and ends on a refusal such as 403 by raising it.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from millpond_api.events import utc_now
from rich.console import Console
from rich.live import Live

from millpond_cli.cluster import Cluster
from millpond_cli.errors import CliError, NotFound
from millpond_cli.output import stdout
from millpond_cli.view import Lines, View, render
from millpond_cli.watching import Change, Query, follow

REDRAW_SECONDS = 0.25
"""Four drawings a second: faster is not readable and costs the terminal more than the watch."""
AGES_SECONDS = 1.0
"""On a terminal the ages move on without any change in the cluster."""


@dataclass(frozen=True)
class Watching:
    """What to watch and until when. `until` sees every drawn picture and ends the view by returning true."""

    pool: str = ""
    everywhere: bool = False
    with_tasks: bool = False
    until: Callable[[View], bool] = lambda view: False


Item = Change | CliError


def run_view(cluster: Cluster, watching: Watching) -> View:
    """Shows the picture until `until` says so (or Ctrl-C); the last picture."""
    changes: queue.Queue[Item] = queue.Queue()
    stop = threading.Event()
    plurals = ["workerpools", "workers", *(["tasks"] if watching.with_tasks else [])]
    for plural in plurals:
        query = Query(plural, watching.everywhere)
        threading.Thread(target=_pump, args=(cluster, query, stop, changes), daemon=True, name=plural).start()
    view = View(pool=watching.pool, everywhere=watching.everywhere)
    draw = _Drawing(stdout())
    try:
        with draw:
            while not _finished(view, watching):
                _take(view, changes)
                if set(plurals) <= view.synced or view.down:
                    draw(view)
    finally:
        stop.set()
    return view


def _pump(cluster: Cluster, query: Query, stop: threading.Event, changes: "queue.Queue[Item]") -> None:
    try:
        for change in follow(cluster, query, stop):
            changes.put(change)
    except CliError as error:
        changes.put(error)


def _take(view: View, changes: "queue.Queue[Item]") -> None:
    """Waits for a change, then collects what comes within one drawing's time."""
    try:
        item = changes.get(timeout=AGES_SECONDS)
    except queue.Empty:
        return
    end = time.monotonic() + REDRAW_SECONDS
    while True:
        if isinstance(item, CliError):
            raise item
        view.apply(item)
        try:
            item = changes.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            return


def _finished(view: View, watching: Watching) -> bool:
    if watching.pool and "workerpools" in view.synced and not view.pools:
        raise NotFound(f"pool {watching.pool} does not exist: see `millpond get pools`, or name another -n/--namespace")
    return watching.until(view)


class _Drawing:
    """A table that is redrawn on a terminal, lines in a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = Lines()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "_Drawing":
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.__exit__(None, None, None)

    def __call__(self, view: View) -> None:
        if self._live:
            self._live.update(render(view, utc_now(), self._console.height), refresh=True)
            return
        for line in self._lines.news(view):
            print(line)
        sys.stdout.flush()
