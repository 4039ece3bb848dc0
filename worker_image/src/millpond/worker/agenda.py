"""What to ask the queue for next: pure; the time is an argument.

Owns what this worker believes of each line of its pool's queue (a line is a class, or one lane of a class that is
fair between keys) and the choice among them: classes by `turns`, the lines of a class in a ring. It must not ask
anything itself. It survives being wrong: a line believed to hold something that does not is asked once in vain and then
left alone, one that is believed empty is asked again (see `_Ring`), so that a belief costs time and never a task.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from millpond.worker.turns import Turns

EMPTY_FOR = 0.01
"""Seconds in which a class that was found empty is not asked again while others have tasks: one question in vain for
each 10 ms instead of one for each task, and an urgent task is seen 10 ms later at most."""


class Line(NamedTuple):
    """A FIFO queue at the server: a class's own (lane "") or one of its lanes."""

    task_class: str
    lane: str = ""


class Agenda:
    """The lines of one worker, and whose turn is next."""

    def __init__(self, turns: Turns, classes: tuple[str, ...]) -> None:
        self._turns = turns
        self.classes = classes
        self._rings = {name: _Ring() for name in classes}

    def plan(self, free: int, now: float, *, probes: int = 0) -> dict[Line, int]:
        """How many tasks to ask each line for, `free` in all; fewer only if fewer lines may have something.

        `probes` lanes that are probably empty are asked as well, for one task each, within `free`.
        """
        turns, asks = self._turns.copy(), Counter[Line]()
        waiting = {name: ring for name, ring in self._rings.items() if ring.may_have(now, probes)}
        while free > 0 and waiting:
            name = turns.pick(waiting)
            lane, doubtful = waiting[name].next(now, probes)
            if lane is None:
                del waiting[name]
                continue
            probes -= doubtful
            asks[Line(name, lane)] += 1
            turns.charge(name)
            free -= 1
        return dict(asks)

    def note(self, line: Line, asked: int, got: int, now: float) -> None:
        """The line was asked for so many and gave so many: fewer than asked means that it is empty."""
        self._turns.charge(line.task_class, got)
        ring = self._rings[line.task_class]
        if got < asked:
            ring.found_empty(line.lane, now)
        else:
            ring.found_full(line.lane)

    def see(self, counts: Mapping[Line, int]) -> bool:
        """A look at the whole queue: tasks waiting and in flight in each lane. Whether a lane may hold a new one."""
        found = False
        for name, ring in self._rings.items():
            lanes = {line.lane: count for line, count in counts.items() if line.task_class == name and line.lane}
            found |= ring.see(lanes)
        return found

    def wake(self, line: Line) -> bool:
        """A task was stored in this line; False for a class that this worker does not serve."""
        ring = self._rings.get(line.task_class)
        if ring:
            ring.found_full(line.lane)
        return ring is not None

    def watch(self, task_class: str, *, watched: bool) -> None:
        """Whether a long poll waits at the class's own line: what comes there is pushed, so it need not be asked."""
        self._rings[task_class].watched = watched

    def is_ready(self, line: Line) -> bool:
        """Whether the line is believed to hold something."""
        return line.task_class in self._rings and line.lane in self._rings[line.task_class].ready

    @property
    def has_lanes(self) -> bool:
        """Whether any lane holds a task, waiting or in flight."""
        return any(ring.counts for ring in self._rings.values())


class _Ring:
    """The lines of one class: each in its turn, one task a turn.

    `ready` lines are believed to hold something. A lane is `doubtful` when it holds messages that may all be in flight
    (counts of the server do not tell the two apart): found empty, and not grown since. Those are asked one at each
    freed slot, so that a message which came back unnoticed waits for one round of the pool's slots at most, and no
    slot asks more than once in vain.
    """

    def __init__(self) -> None:
        self.ready: dict[str, None] = {"": None}
        self.doubtful: dict[str, None] = {}
        self.counts: dict[str, int] = {}
        self.watched = False
        self._empty_until = 0.0

    def may_have(self, now: float, probes: int) -> bool:
        self._look_again(now)
        return bool(self.ready) or (probes > 0 and bool(self.doubtful))

    def next(self, now: float, probes: int) -> tuple[str | None, bool]:
        """The next line of the ring and whether that is a probe; (None, False) when there is none."""
        self._look_again(now)
        doubtful = probes > 0 and bool(self.doubtful)
        ring = self.doubtful if doubtful else self.ready
        if not ring:
            return None, False
        lane = next(iter(ring))
        del ring[lane]
        ring[lane] = None
        return lane, doubtful

    def found_empty(self, lane: str, now: float) -> None:
        self.ready.pop(lane, None)
        if not lane:
            self._empty_until = now + EMPTY_FOR
        elif lane in self.counts:
            self.doubtful[lane] = None

    def found_full(self, lane: str) -> None:
        self.doubtful.pop(lane, None)
        self.ready[lane] = None

    def see(self, counts: Mapping[str, int]) -> bool:
        found = False
        for lane, count in counts.items():
            if lane not in self.ready and count > self.counts.get(lane, 0):
                self.found_full(lane)
                found = True
            elif lane not in self.ready:
                self.doubtful[lane] = None
        # Only what an earlier look showed: this one may be older than a wake-up that came before it.
        for lane in [lane for lane in self.counts if lane not in counts]:
            self.ready.pop(lane, None)
            self.doubtful.pop(lane, None)
        self.counts = dict(counts)
        return found

    def _look_again(self, now: float) -> None:
        """The class's own line is asked again after a while, unless a long poll waits there."""
        if self.watched:
            self.ready.pop("", None)
        elif "" not in self.ready and now >= self._empty_until:
            self.ready[""] = None
