"""Who may write a task's checkpoint, as a model: every interleaving of three attempts, the earlier ones living on.

Owns the rules of docs/protocol.md's "Checkpoints" in a form that a machine can exhaust: the one message of the task,
stored by compare-and-set, the claim as fencing token, taking over when an attempt resumes, crashes, attempts that were
taken for lost and write nevertheless, and lost confirmations. Which attempt's outcome counts is `protocol_model`'s.
Change the model first when the rules must change.

Checked: what an attempt resumes from was written by itself or by an attempt with a smaller claim; once an attempt has
resumed or written, no attempt with a smaller claim stores anything; and the newest attempt can always store.

    python -m tests.support.checkpoints_model                    explores it
    python -m tests.support.checkpoints_model --break RULE       the same without one rule: it must report a violation
"""

import sys
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from tests.support.protocol_model import Explored, report, search

CLAIMS, ACTS = 3, 2
"""Attempts of the task, and how often each of them resumes or writes."""


class Broken(Enum):
    """A rule to leave out."""

    NONE = ""
    CAS = "cas"
    """Stored whatever was stored since it was read."""
    TOKEN = "token"
    """A greater claim in what stands stops nobody: it is read again and replaced."""
    TAKE_OVER = "take-over"
    """To resume, it is read and not stored under one's own claim."""


class Note(NamedTuple):
    """What stands: the claim that it is stored under, and the claim whose state it is (0: no state)."""

    claim: int = 0
    author: int = 0


class Attempt(NamedTuple):
    """One attempt. `act`: resume or write, while one is under way; `known` the sequence that it has read (-1: none)."""

    claim: int
    act: str = ""
    known: int = -1
    left: int = ACTS
    gone: bool = False


class State(NamedTuple):
    """`spoke`: the greatest claim that has resumed or written; `problem`: what must never be."""

    losses: int = 2
    """Confirmations that may still be lost."""
    sequence: int = 0
    note: Note = Note()
    attempts: tuple[Attempt, ...] = (Attempt(1),)
    spoke: int = 0
    problem: str = ""

    def having(self, attempt: Attempt) -> "State":
        place = attempt.claim - 1
        return self._replace(attempts=(*self.attempts[:place], attempt, *self.attempts[place + 1 :]))


Step = tuple[str, State]


def steps(s: State, broken: Broken) -> Iterator[Step]:
    """Every step that can follow."""
    if len(s.attempts) < CLAIMS:
        yield "claim", s._replace(attempts=(*s.attempts, Attempt(len(s.attempts) + 1)))
    for attempt in s.attempts:
        if attempt.gone:
            continue
        name = str(attempt.claim)
        if attempt.claim < CLAIMS:
            yield f"{name} dies", s.having(attempt._replace(gone=True))
        if not attempt.act and attempt.left:
            for act in ("resume", "write"):
                yield f"{name} begins to {act}", s.having(attempt._replace(act=act))
        elif attempt.act and attempt.known < 0:
            yield from read(s, attempt, broken)
        elif attempt.act:
            yield from store(s, attempt, broken)


def read(s: State, attempt: Attempt, broken: Broken) -> Iterator[Step]:
    """Look at what stands: a greater claim ends this attempt's writing for good."""
    name = str(attempt.claim)
    if s.note.claim > attempt.claim and broken is not Broken.TOKEN:
        yield f"{name} finds {s.note}: stale", s.having(attempt._replace(gone=True))
    elif attempt.act == "resume" and broken is Broken.TAKE_OVER:
        yield f"{name} resumes from {s.note}", spoken(s, attempt)
    else:
        yield f"{name} reads {s.note}", s.having(attempt._replace(known=s.sequence))


def store(s: State, attempt: Attempt, broken: Broken) -> Iterator[Step]:
    """Replace exactly what was read."""
    name = str(attempt.claim)
    if attempt.known != s.sequence and broken is not Broken.CAS:
        yield f"{name} refused", s.having(attempt._replace(known=-1))
        return
    author = s.note.author if attempt.act == "resume" else attempt.claim
    stored = s._replace(sequence=s.sequence + 1, note=Note(attempt.claim, author))
    if attempt.claim < s.spoke:
        stored = stored._replace(problem="a stale attempt's write follows")
    yield f"{name} stores to {attempt.act}", spoken(stored, attempt)
    if s.losses:
        # Not confirmed: it reads what stands, which is its own, and stores that again.
        unsure = stored._replace(losses=s.losses - 1).having(attempt._replace(known=-1))
        yield f"{name} stores to {attempt.act}, confirmation lost", unsure


def spoken(s: State, attempt: Attempt) -> State:
    """It has resumed from what stands, or written it."""
    done = attempt._replace(act="", known=-1, left=attempt.left - 1)
    problem = "an attempt resumes from a later one's state" if s.note.author > attempt.claim else s.problem
    return s.having(done)._replace(spoke=max(s.spoke, attempt.claim), problem=problem)


def ended_well(s: State) -> bool:
    """The newest attempt has stored."""
    return s.spoke == CLAIMS


def explore(broken: Broken = Broken.NONE) -> Explored:
    """Visit every reachable state."""
    return search(State(), lambda s: steps(s, broken), lambda s: s.problem, ended_well)


def main(arguments: list[str]) -> int:
    broken = Broken(arguments[1]) if arguments[:1] == ["--break"] else Broken.NONE
    return report([(f"{CLAIMS} attempts", explore(broken))])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
