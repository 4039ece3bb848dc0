"""Who has which member, who waits, and what to start or dismiss: a pool's decisions. Pure.

Owns poolboy's rules (github.com/devinus/poolboy, 1.5.2): the strategy orders idle members alone, waiters are served
first come first served, overflow is made only when nobody is idle and dismissed at check-in, a member that dies in use
is replaced for a waiter, and without one only up to `size`. Two things differ: poolboy starts a member while
everybody waits; here a start is asked for and told when it is over, so a slow one holds up nobody. And of `size`
members those beyond `warm` are made when they are first needed. It knows no event loop: every method returns what is
to be done.

Terms: a *member* is what is lent; a *claim* is one wish for one (any hashable token of its own).
"""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Literal, TypeVar

M = TypeVar("M", bound=Hashable)
C = TypeVar("C", bound=Hashable)
Strategy = Literal["lifo", "fifo"]


@dataclass(frozen=True)
class Grant(Generic[C, M]):
    """The claim has the member."""

    claim: C
    member: M


class Refusal(Enum):
    """Why a claim gets nothing."""

    FULL = "every member is in use"
    FAILED = "no member could be started"


@dataclass(frozen=True)
class Refuse(Generic[C]):
    """The claim, which would not wait, gets nothing."""

    claim: C
    why: Refusal


@dataclass(frozen=True)
class Start:
    """Start one more member; `started` or `failed` says how it went."""


@dataclass(frozen=True)
class Dismiss(Generic[M]):
    """The member is not the pool's any more: end it."""

    member: M


Step = Grant[C, M] | Refuse[C] | Start | Dismiss[M]


@dataclass(frozen=True)
class Status:
    """poolboy's `status`: `idle` members, those beyond the size (`overflow`), those in use (`monitors`), and waiters.

    `state`: `ready` while a member is idle, `overflow` while one more could be started, else `full`.
    """

    state: Literal["ready", "overflow", "full"]
    idle: int
    overflow: int
    monitors: int
    waiting: int


@dataclass
class Roster(Generic[C, M]):
    """`size` members, up to `max_overflow` more while they are needed. Both are numbers of members, >= 0.

    `warm` of the `size` are there before anybody asks; all of them, as poolboy has it, unless it says less.
    """

    size: int
    max_overflow: int = 0
    strategy: Strategy = "lifo"
    idle: deque[M] = field(default_factory=deque)
    lent: dict[M, C] = field(default_factory=dict)
    waiting: dict[C, bool] = field(default_factory=dict)
    """Claims in the order in which they came, and whether each is patient: waits also when no start is under way."""
    warm: int | None = None
    starting: int = 0
    resting: bool = False
    """A start failed a moment ago: none is asked for until `retry`, or until another one has gone well."""

    def __post_init__(self) -> None:
        if self.size < 0 or self.max_overflow < 0 or self.size + self.max_overflow == 0:
            raise ValueError("a pool needs room for one member: size >= 1, or size 0 with max_overflow >= 1")
        if self.strategy not in ("lifo", "fifo"):
            raise ValueError(f"strategy is lifo or fifo, not {self.strategy!r}")
        if self.warm is not None and not 0 <= self.warm <= self.size:
            raise ValueError(f"warm is a part of the size, from 0 to {self.size}, not {self.warm}")

    # ---- what is asked

    def claim(self, claim: C, *, patient: bool = True) -> list[Step[C, M]]:
        """Somebody wants a member; one who is not patient is refused when every member is in use."""
        if self.idle:
            return [self._lend(claim, self.idle.pop() if self.strategy == "lifo" else self.idle.popleft())]
        if not patient and self.starting <= len(self.waiting) and (self.resting or not self._has_room()):
            return [Refuse(claim, Refusal.FAILED if self._has_room() else Refusal.FULL)]
        self.waiting[claim] = patient
        return self._start_what_lacks()

    def withdraw(self, claim: C) -> list[Step[C, M]]:
        """The claim is over, whether it waited or was granted just now: nothing leaks."""
        self.waiting.pop(claim, None)
        member = next((member for member, holder in self.lent.items() if holder == claim), None)
        return [] if member is None else self.give_back(member)

    def give_back(self, member: M) -> list[Step[C, M]]:
        """A check-in. What is not lent (a second check-in, a dead or a foreign member) is ignored."""
        if member not in self.lent:
            return []
        del self.lent[member]
        return self._place(member)

    # ---- what happened

    def died(self, member: M, *, young: bool = False) -> list[Step[C, M]]:
        """The member is dead, idle or in use; it is replaced for a waiter, or up to the size.

        `young`: as soon as it was made, so that its successor is to be expected to do the same. See `retry`.
        """
        if member in self.lent:
            del self.lent[member]
        elif member in self.idle:
            self.idle.remove(member)
        else:
            return []
        self.resting = self.resting or young
        return self._start_what_lacks()

    def started(self, member: M) -> list[Step[C, M]]:
        """A start that was asked for is over; it serves whoever waits longest."""
        self.starting -= 1
        self.resting = False
        return [*self._place(member), *self._start_what_lacks()]

    def failed(self) -> list[Step[C, M]]:
        """A start that was asked for came to nothing. Who waits goes on; who is not patient is told. See `retry`."""
        self.starting -= 1
        self.resting = True
        hasty = next((claim for claim, patient in self.waiting.items() if not patient), None)
        if hasty is None or len(self.waiting) <= self.starting:
            return []
        del self.waiting[hasty]
        return [Refuse(hasty, Refusal.FAILED)]

    def retry(self) -> list[Step[C, M]]:
        """Some time after a failed start: start again what still lacks."""
        self.resting = False
        return self._start_what_lacks()

    # ---- what it is

    @property
    def members(self) -> int:
        """Members that live or are being started."""
        return len(self.idle) + len(self.lent) + self.starting

    def status(self) -> Status:
        overflow = max(0, self.members - self.size)
        return Status(self._state(overflow), len(self.idle), overflow, len(self.lent), len(self.waiting))

    def _state(self, overflow: int) -> Literal["ready", "overflow", "full"]:
        if overflow == 0 and self.idle:
            return "ready"
        return "full" if overflow == self.max_overflow else "overflow"

    def _has_room(self) -> bool:
        return self.members < self.size + self.max_overflow

    def _lend(self, claim: C, member: M) -> Grant[C, M]:
        self.lent[member] = claim
        return Grant(claim, member)

    def _place(self, member: M) -> list[Step[C, M]]:
        """A member is free: for the first waiter, else away with it when it is one too many, else idle.

        What is being started does not count: the member at hand is of use at once, the late one is dismissed.
        """
        if self.waiting:
            first = next(iter(self.waiting))
            del self.waiting[first]
            return [self._lend(first, member)]
        if len(self.idle) + len(self.lent) >= self.size:
            return [Dismiss(member)]
        self.idle.append(member)
        return []

    def _start_what_lacks(self) -> list[Step[C, M]]:
        return list(self._starts())

    def _starts(self) -> Iterator[Start]:
        always = self.size if self.warm is None else self.warm
        while not self.resting and (self.members < always or (self.starting < len(self.waiting) and self._has_room())):
            self.starting += 1
            yield Start()
