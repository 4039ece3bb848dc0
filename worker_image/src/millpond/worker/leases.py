"""What the worker holds, and the process that keeps it when the worker's own Python cannot (`understudy`).

Owns the set of ack subjects under lease, and its mirror in the memory that the understudy reads. `Leases` alone is a
plain set; `SharedLeases` is the mirror, `Understudy` the process. Written by the main thread, read by the keeper's.
"""

import faulthandler
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from millpond_api import subjects

from millpond.access import read_access
from millpond.settings import Settings
from millpond.worker import understudy
from millpond.worker.understudy import ENTRY, Table
from millpond.worker.wards import Program

ROOM = 4
"""Entries for each slot: what runs, what is held, and what is being given back."""


class Leases(dict[str, None]):
    """Ack subjects of everything that is ours now, running or held."""

    def tick(self) -> None:
        """The keeper lives."""

    def say(self, beat: bytes) -> None:
        """The keeper's last heartbeat."""


class SharedLeases(Leases):
    """The same, mirrored into the table. One that finds no room there is kept by the keeper alone."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table
        self._free = list(range(table.slots))
        self._places: dict[str, int] = {}

    def __setitem__(self, reply: str, value: None) -> None:
        super().__setitem__(reply, value)
        if self._free and reply not in self._places and len(reply) <= ENTRY - 8:
            place = self._places[reply] = self._free.pop()
            self._table.write(place, reply.encode())

    def pop(self, reply: str, default: None = None) -> None:  # type: ignore[override]
        super().pop(reply, None)
        place = self._places.pop(reply, None)
        if place is not None:
            self._table.clear(place)
            self._free.append(place)

    def tick(self) -> None:
        self._table.tick(time.monotonic())

    def say(self, beat: bytes) -> None:
        self._table.write_beat(beat)


class Understudy(Program):
    """The process, a `supervising.Ward`, and what it reads. Made before the worker starts threads.

    It is told to end by the end of a pipe, which the worker's own end closes, too.
    """

    def __init__(self, settings: Settings, crashed: Callable[[str], None]) -> None:
        size = Table.size_for(max(64, ROOM * settings.concurrency))
        memory, stacks = os.memfd_create("millpond-leases"), os.memfd_create("millpond-stacks")
        os.ftruncate(memory, size)
        faulthandler.register(signal.SIGUSR2, file=stacks, all_threads=True)
        ours, theirs = os.pipe()
        command = [sys.executable, "-I", "-S", understudy.__file__, str(ours), str(memory)]
        # Its plan is not on the command line: it holds what NATS lets us in with.
        told = _plan(settings, stacks).encode()
        super().__init__(command, crashed, (ours, memory, stacks), told, tell=lambda: os.close(theirs))
        self.leases = SharedLeases(Table(memory, size))


def _plan(settings: Settings, stacks: int) -> str:
    where = (settings.namespace, settings.pool, settings.worker)
    plan = {
        "url": settings.nats_url,
        "name": f"millpond {settings.worker} understudy",
        "lease": settings.lease,
        "beat": settings.beat,
        "beat_subject": subjects.beat(*where),
        "event_subject": subjects.worker_events(*where),
        "parent": os.getpid(),
        "stacks": stacks,
        "access": _access(),
    }
    return json.dumps(plan)


def _access() -> dict[str, str]:
    """The environment's, as the understudy needs it: it looks for no package but the one that signs."""
    said = asdict(read_access())
    packages = {}
    if said["creds"]:
        found = importlib.util.find_spec("nkeys")
        assert found is not None  # read_access has seen to it
        assert found.origin is not None
        packages["packages"] = str(Path(found.origin).parents[1])
    return {name: value for name, value in said.items() if value} | packages
