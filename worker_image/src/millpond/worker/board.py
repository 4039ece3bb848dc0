"""What a worker shows of itself: its state, what it runs, what it holds, what it counted.

Owned by the main thread, which alone writes (but for the keeper's own tick); the keeper's thread reads it for leases
and heartbeats. Every read takes a copy of a whole container in one step (`tuple(dict)`), so no lock is needed and a
stuck reader cannot hold up the writer.
"""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from millpond_api.events import Beat, InFlight
from millpond_api.lifecycle import WorkerState

from millpond.context import Control
from millpond.worker.leases import Leases

MISSING_KEPT = 150.0
"""Seconds that a missing handler stays named: its messages come back every 60 s at the latest."""
MISSING_TASKS = 20
LIMITED_KEPT = 10.0
"""Seconds that a wait for the pool's rate stays visible: a condition that flickers tells nobody anything."""


@dataclass(slots=True, eq=False)
class Running:
    """A task in a slot. `control` is shared with the handler's context."""

    task: str
    handler: str
    attempt: int
    object: str
    since: datetime
    control: Control = field(default_factory=Control)
    hung: datetime | None = None
    """Since when it is past its soft timeout without a sign of progress, and where."""
    where: str = ""
    owner: str = ""


@dataclass
class Missing:
    """Messages for handlers that this worker's app does not have."""

    _seen: "OrderedDict[str, tuple[str, str, float]]" = field(default_factory=OrderedDict)

    def note(self, task: str, handler: str, task_object: str) -> None:
        self._seen[task] = (handler, task_object, time.monotonic())
        self._seen.move_to_end(task)
        while len(self._seen) > 1000:
            self._seen.popitem(last=False)

    def forget(self, handlers: set[str]) -> None:
        """Somebody has these now."""
        for task in [task for task, (handler, _, _) in self._seen.items() if handler in handlers]:
            del self._seen[task]

    def read(self) -> tuple[dict[str, int], list[str]]:
        """Handlers with the number of tasks that want them, and the last Task objects among those."""
        oldest = time.monotonic() - MISSING_KEPT
        recent = [entry for entry in tuple(self._seen.values()) if entry[2] >= oldest]
        counts: dict[str, int] = {}
        for handler, _, _ in recent:
            counts[handler] = counts.get(handler, 0) + 1
        return counts, [name for _, name, _ in recent if name][-MISSING_TASKS:]


@dataclass
class Board:
    """One worker's facts."""

    slots: int
    handlers: list[str]
    started: datetime
    state: WorkerState = WorkerState.STARTING
    remote: str = ""
    """The host of a worker outside the cluster."""
    incarnation: str = field(default_factory=lambda: secrets.token_hex(4))
    running: dict[int, Running] = field(default_factory=dict)
    leases: Leases = field(default_factory=Leases)
    """Ack subjects of everything that is ours now, running or held: the keeper prolongs these."""
    shelved: dict[str, None] = field(default_factory=dict)
    """Those of messages for handlers that nobody has yet: prolonged too, but no work of ours."""
    missing: Missing = field(default_factory=Missing)
    succeeded: int = 0
    failed: int = 0
    served_seconds: float = 0.0
    served: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By class: attempts that ended, and their seconds in all."""
    main_tick: float = field(default_factory=time.monotonic)
    keeper_tick: float = field(default_factory=time.monotonic)
    ready: bool = False
    limited_until: float = float("-inf")
    """Until then the pool's rate counts as what holds this worker back (monotonic seconds)."""

    @property
    def in_flight(self) -> int:
        """Everything taken from the queue and not given back: held messages count, they would be lost time too."""
        return max(len(self.running), len(self.leases))

    def count_served(self, seconds: float, task_class: str, *, succeeded: bool) -> None:
        self.served_seconds += seconds
        ended, total = self.served.get(task_class, (0, 0.0))
        self.served[task_class] = (ended + 1, total + seconds)
        if succeeded:
            self.succeeded += 1
        else:
            self.failed += 1

    def note_limited(self) -> None:
        """A start had to wait for the pool's rate."""
        self.limited_until = time.monotonic() + LIMITED_KEPT

    def make_beat(self, now: datetime) -> Beat:
        served = self.succeeded + self.failed
        missing, missing_tasks = self.missing.read()
        return Beat(
            state=self.state,
            at=now,
            started=self.started,
            slots=self.slots,
            in_flight=[_in_flight(running) for running in tuple(self.running.values())],
            succeeded=self.succeeded,
            failed=self.failed,
            service_seconds=round(self.served_seconds / served, 6) if served else 0.0,
            handlers=tuple(self.handlers),
            limited=time.monotonic() < self.limited_until,
            incarnation=self.incarnation,
            remote=self.remote,
            missing=missing,
            missing_tasks=missing_tasks,
            served={name: (ended, round(total, 3)) for name, (ended, total) in self.served.items()}
            if len(self.served) > 1
            else {},
        )


def _in_flight(running: Running) -> InFlight:
    return InFlight(
        task=running.task,
        handler=running.handler,
        attempt=running.attempt,
        since=running.since,
        object=running.object,
        progress=running.control.progress,
        hung=running.hung,
        where=running.where,
        owner=running.owner,
    )
