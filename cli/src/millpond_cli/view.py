"""What `millpond watch` knows and shows: objects by kind, whether the pools are idle, and how that reads.

Owns the picture and its two renderings (a table for a terminal, lines for a pipe). Pure: changes come in, `now` comes
in, text goes out. A `Sync` replaces a whole kind, so nothing deleted during a broken watch stays on the screen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millpond_api.lifecycle import WORKER_ENDED
from rich.console import Group, RenderableType
from rich.text import Text

from millpond_cli.cluster import Object
from millpond_cli.output import make_table
from millpond_cli.rows import POOL_COLUMNS, WORKER_COLUMNS, Row, parse_time, pool_row, status_of, worker_row
from millpond_cli.submitting import is_terminal
from millpond_cli.watching import Change, Down, Gone, Set, Sync

ENDED_SHOWN_SECONDS = 15.0
"""A worker that ended stays on the screen this long, so that its end and the reason can be read."""
_POOL_CELLS = len(POOL_COLUMNS) - 1
Key = tuple[str, str]


def key_of(item: Object) -> Key:
    return str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"])


def pool_of(item: Object) -> str:
    """The pool that a task or a worker belongs to; a pool's own name."""
    own = item.get("kind") == "WorkerPool"
    return str(item["metadata"]["name"] if own else (item.get("spec") or {}).get("pool", ""))


@dataclass
class View:
    """The picture. `pool` narrows it to one; tasks are kept only by key and whether they have ended."""

    pool: str = ""
    everywhere: bool = False
    pools: dict[Key, Object] = field(default_factory=dict)
    workers: dict[Key, Object] = field(default_factory=dict)
    open_tasks: set[Key] = field(default_factory=set)
    synced: set[str] = field(default_factory=set)
    down: str = ""

    def apply(self, change: Change) -> None:
        """Takes one change into the picture."""
        if isinstance(change, Down):
            self.down = change.message
            return
        self.down = ""
        if isinstance(change, Sync):
            self.synced.add(change.plural)
            self._clear(change.plural)
            for item in change.items:
                self._put(change.plural, item)
        elif isinstance(change, Set):
            self._put(change.plural, change.item)
        elif isinstance(change, Gone):
            self._drop(change.plural, key_of(change.item))

    def _clear(self, plural: str) -> None:
        if plural == "tasks":
            self.open_tasks.clear()
        else:
            self._kind(plural).clear()

    def _put(self, plural: str, item: Object) -> None:
        if self.pool and pool_of(item) != self.pool:
            return
        if plural != "tasks":
            self._kind(plural)[key_of(item)] = item
        elif is_terminal(item):
            self.open_tasks.discard(key_of(item))
        else:
            self.open_tasks.add(key_of(item))

    def _drop(self, plural: str, key: Key) -> None:
        if plural == "tasks":
            self.open_tasks.discard(key)
        else:
            self._kind(plural).pop(key, None)

    def _kind(self, plural: str) -> dict[Key, Object]:
        return self.pools if plural == "workerpools" else self.workers

    @property
    def idle(self) -> bool:
        """No Task object is open and no queue holds anything (a task of the SDK has no object)."""
        complete = {"workerpools", "tasks"} <= self.synced
        return complete and not self.down and not self.open_tasks and not any(map(_loaded, self.pools.values()))

    def pool_rows(self) -> list[Row]:
        return [pool_row(self.pools[key], self.everywhere) for key in sorted(self.pools)]

    def worker_rows(self, now: datetime) -> list[Row]:
        """Living workers and those that have just ended."""
        shown = [self.workers[key] for key in sorted(self.workers) if not _long_gone(self.workers[key], now)]
        return [worker_row(worker, now, self.everywhere) for worker in shown]


def _loaded(pool: Object) -> bool:
    status = status_of(pool)
    return bool(status.get("lag") or status.get("waiting") or status.get("inFlight"))


def _long_gone(worker: Object, now: datetime) -> bool:
    status = status_of(worker)
    since = parse_time(status.get("since"))
    return status.get("state") in WORKER_ENDED and (
        since is None or (now - since).total_seconds() > ENDED_SHOWN_SECONDS
    )


def render(view: View, now: datetime, height: int) -> RenderableType:
    """The tables for a terminal of this height; what does not fit is counted."""
    parts: list[RenderableType] = []
    pools = view.pool_rows()
    # The decision's sentence stands on a line of its own: in a column it would be cut on most terminals.
    parts.append(make_table(POOL_COLUMNS[:_POOL_CELLS], [Row(r.key, r.cells[:_POOL_CELLS], r.state) for r in pools]))
    for key in sorted(view.pools)[:3]:
        parts.extend(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in _remarks(view.pools[key]))
    workers = view.worker_rows(now)
    room = max(3, height - len(pools) - len(parts) - 5)
    if workers:
        parts += [Text(""), make_table(WORKER_COLUMNS, workers[:room])]
    if len(workers) > room:
        parts.append(Text(f"… and {len(workers) - room} more workers", style="dim"))
    if view.down:
        parts.append(Text(view.down, style="red"))
    return Group(*parts)


def _remarks(pool: Object) -> Iterator[str]:
    """Tasks by phase and the newest scaling decision."""
    counts = task_counts(pool)
    if counts:
        yield f"  {pool['metadata']['name']}: tasks {counts}"
    for decision in (status_of(pool).get("decisions") or [])[:1]:
        yield f"  {pool['metadata']['name']}: {decision.get('message', '')}"


def task_counts(pool: Object) -> str:
    """`3 running, 1690 succeeded`: the phases that have any."""
    counts: dict[str, Any] = status_of(pool).get("tasks") or {}
    return ", ".join(f"{number} {phase}" for phase, number in counts.items() if number)


BACK = "the Kubernetes API answers again"


@dataclass
class Lines:
    """The picture for a pipe: a line for each thing that changed since the last call."""

    _said: dict[tuple[str, Key], str] = field(default_factory=dict)
    _down: str = ""

    def news(self, view: View) -> Iterator[str]:
        """Lines not said yet, pools first."""
        now: dict[tuple[str, Key], str] = {}
        for key, pool in sorted(view.pools.items()):
            now["pool", key] = pool_line(pool)
            now["decision", key] = _decision_line(pool)
        for key, worker in sorted(view.workers.items()):
            now["worker", key] = worker_line(worker)
        yield from (line for what, line in now.items() if line and self._said.get(what) != line)
        gone = self._said.keys() - now.keys()
        yield from (f"{what} {key[1]}: deleted" for what, key in sorted(gone) if what != "decision")
        self._said = now
        if view.down != self._down:
            yield view.down or BACK
        self._down = view.down


def pool_line(pool: Object) -> str:
    """`census: lag 120 (112 waiting, 8 in flight), workers 4 of 4 ready, 4 busy, Auto; 8 running, 30 succeeded`"""
    status = status_of(pool)
    busy = (status.get("workers") or {}).get("busy", 0)
    counts = task_counts(pool)
    return (
        f"{pool['metadata']['name']}: lag {status.get('lag', 0)} ({status.get('waiting', 0)} waiting, "
        f"{status.get('inFlight', 0)} in flight), workers {status.get('readyReplicas', 0)} of "
        f"{status.get('desired', 0)} ready, {busy} busy, {status.get('mode', '')}" + (f"; {counts}" if counts else "")
    )


def _decision_line(pool: Object) -> str:
    decision = (status_of(pool).get("decisions") or [{}])[0]
    return f"{pool['metadata']['name']}: {decision['message']}" if decision.get("message") else ""


def worker_line(worker: Object) -> str:
    """State and its reason. What it runs changes many times a second and is left to the terminal's view."""
    status = status_of(worker)
    why = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
    return f"  {worker['metadata']['name']}: {status.get('state', 'Starting')}" + (f" ({why})" if why else "")
