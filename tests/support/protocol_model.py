#!/usr/bin/env python3
"""The task protocol as a model: explores every interleaving of one task and two workers.

Owns the rules of docs/protocol.md in a form that a machine can exhaust: crashes, zombies (a lease that ran out while
its holder lives on), lost confirmations, releases at shutdown, snoozes, a deadline, a duplicate submission, a cancel,
and redrives from the dead letters that may crash at any step too. It imports nothing of Millpond on purpose: the code
is held against it by tests/broker/test_protocol_machine.py. Change the model first when the protocol must change.

Checked: an outcome is recorded once and nothing but a redrive follows it; a log never goes back to an older message;
from every reachable state the task can still end well (outcome recorded, queue and delays empty, a dead letter exactly
when it failed), so no state is stuck and nothing lost.

    protocol_model.py                    explores all scopes (minutes)
    protocol_model.py --break RULE       the same without one rule, which must report a violation
"""

import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise
from typing import NamedTuple, TypeVar

MAX_ATTEMPTS, POISON = 2, 3
TERMINAL = ("Succeeded", "Failed", "Cancelled", "Expired")


class Broken(Enum):
    """A rule to leave out."""

    NONE = ""
    FENCE = "fence"
    """Outcomes are stored whether or not the log moved since the claim."""
    ORDER = "order"
    """The ack comes right after the event, before its consequences."""
    ZOMBIE_ACK = "zombie-ack"
    """A fenced worker acks what it was delivered."""
    RELEASE = "release"
    """At shutdown the message is acked instead of handed back."""
    SNOOZE = "snooze"
    """Messages do not tell how often the task was put off: one from before a snooze looks like the one after it."""
    REDRIVE = "redrive"
    """The dead letter is removed before the task is published again."""


class Rank(NamedTuple):
    """Which message of the task: of two, the greater is the later. A snooze refunds the attempt, so it counts too."""

    attempt: int = 1
    snoozes: int = 0

    def __str__(self) -> str:
        return f"{self.attempt}" + "z" * self.snoozes


class Event(NamedTuple):
    state: str
    attempt: int
    snoozes: int = 0

    @property
    def rank(self) -> Rank:
        return Rank(self.attempt, self.snoozes)


class Worker(NamedTuple):
    """`known` is the last sequence that it saw or wrote (-1: none yet); `outcome` what it is about to commit."""

    step: str = "idle"
    message: Rank = Rank(0)
    known: int = -1
    outcome: Event | None = None


class Redriver(NamedTuple):
    """Who puts a dead letter back: `letter` is the failed attempt's rank, `known` as above."""

    step: str = "idle"
    letter: Rank = Rank(0)
    known: int = -1


IDLE, AWAY = Worker(), Redriver()


class Scope(NamedTuple):
    """How much may go wrong in one exploration."""

    crashes: int = 0
    duplicates: int = 0
    cancels: int = 0
    releases: int = 0
    deadline: bool = False
    snoozes: int = 0
    redrives: int = 0
    workers: int = 2


class State(NamedTuple):
    """Everything that outlives a step. The number of events is the log's last sequence."""

    budget: Scope
    events: tuple[Event, ...] = ()
    queue: tuple[Rank, ...] = (Rank(),)
    """Messages waiting or in flight: a delivery does not remove them, an ack does."""
    delayed: tuple[Rank, ...] = ()
    dead: frozenset[Rank] = frozenset()
    """Dead letters, by what failed."""
    expired: bool = False
    """The deadline has passed."""
    workers: tuple[Worker, ...] = (IDLE, IDLE)
    redriver: Redriver = AWAY

    @property
    def last(self) -> Event | None:
        return self.events[-1] if self.events else None

    @property
    def terminal(self) -> bool:
        return self.last is not None and self.last.state in TERMINAL

    def with_worker(self, k: int, worker: Worker) -> "State":
        return self._replace(workers=(*self.workers[:k], worker, *self.workers[k + 1 :]))

    def spending(self, budget: Scope) -> "State":
        return self._replace(budget=budget)


Step = tuple[str, State]


def steps(s: State, broken: Broken) -> Iterator[Step]:
    """Every step that can follow `s`, with its name."""
    yield from environment_steps(s)
    yield from redrive_steps(s, broken)
    for k, worker in enumerate(s.workers):
        yield from WORKER_STEPS[worker.step](s, k, worker, broken)
        if worker.step != "idle" and s.budget.crashes:
            yield f"crash {k}", s.with_worker(k, IDLE).spending(s.budget._replace(crashes=s.budget.crashes - 1))


def environment_steps(s: State) -> Iterator[Step]:
    """What happens without a worker."""
    budget = s.budget
    if budget.duplicates:
        yield (
            "duplicate submission",
            s._replace(queue=(*s.queue, Rank())).spending(budget._replace(duplicates=budget.duplicates - 1)),
        )
    if budget.cancels and not s.terminal:
        cancelled = Event("Cancelled", *(s.last.rank if s.last else Rank()))
        yield "cancel", s._replace(events=(*s.events, cancelled)).spending(budget._replace(cancels=budget.cancels - 1))
    if budget.deadline and not s.expired:
        yield "deadline passes", s._replace(expired=True)
    for i, message in enumerate(s.delayed):
        yield f"{message} due", s._replace(delayed=s.delayed[:i] + s.delayed[i + 1 :], queue=(*s.queue, message))


def redrive_steps(s: State, broken: Broken) -> Iterator[Step]:
    """Somebody puts a dead letter back: read and commit, publish, remove; a crash at any step, and anybody again."""
    redriver, budget = s.redriver, s.budget
    if redriver.step != "idle" and budget.crashes:
        yield "redriver crashes", s._replace(redriver=AWAY).spending(budget._replace(crashes=budget.crashes - 1))
    match redriver.step:
        case "idle":
            for letter in sorted(s.dead):
                yield from _begin_redrive(s, letter, broken)
        case "commit" if redriver.known != len(s.events):
            yield "redrive refused", s._replace(redriver=AWAY)
        case "commit":
            events = (*s.events, Event("Queued", redriver.letter.attempt + 1, redriver.letter.snoozes))
            stored = s._replace(events=events).spending(budget._replace(redrives=budget.redrives - 1))
            yield "redrive commits", stored._replace(redriver=_next_redrive_step(redriver, broken))
            yield "redrive commits, confirmation lost", stored._replace(redriver=AWAY)
        case "publish":
            # As if its Msg-Id were never known any more: a repetition makes a second message.
            message = Rank(redriver.letter.attempt + 1, redriver.letter.snoozes)
            after = AWAY if broken is Broken.REDRIVE else redriver._replace(step="remove")
            yield "redrive publishes", s._replace(queue=(*s.queue, message), redriver=after)
        case "remove":
            after = redriver._replace(step="publish") if broken is Broken.REDRIVE else AWAY
            yield "redrive removes the letter", s._replace(dead=s.dead - {redriver.letter}, redriver=after)


def _next_redrive_step(redriver: Redriver, broken: Broken) -> Redriver:
    return redriver._replace(step="remove" if broken is Broken.REDRIVE else "publish")


def _begin_redrive(s: State, letter: Rank, broken: Broken) -> Iterator[Step]:
    """What the log says of a dead letter: it waits, it was put back half, or it is long over."""
    last = s.last
    assert last is not None
    if last == Event("Failed", *letter):
        if s.budget.redrives:
            yield f"redrive of {letter}", s._replace(redriver=Redriver("commit", letter, len(s.events)))
    elif last == Event("Queued", letter.attempt + 1, letter.snoozes):
        again = _next_redrive_step(Redriver("", letter), broken)
        yield f"redrive of {letter} goes on", s._replace(redriver=again)
    else:
        yield f"letter {letter} is over", s._replace(dead=s.dead - {letter})


def deliver(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """A first delivery, or a redelivery while another worker may still run it."""
    for message in sorted(set(s.queue)):
        yield f"deliver {message} to {k}", s.with_worker(k, Worker("got", message))


def decide(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Read the log and decide (protocol, step 2)."""
    last, seq, message = s.last, len(s.events), worker.message
    if outcome_stands(s, message, broken):
        yield f"{k} finds {last}", s.with_worker(k, Worker("consequences", message, seq, last))
    elif s.expired:
        yield f"{k} finds it late", s.with_worker(k, Worker("commit", message, seq, Event("Expired", *message)))
    elif last and last[:2] == ("Running", message.attempt) and lost_runs(s.events, message.attempt) >= POISON:
        yield f"{k} quarantines", s.with_worker(k, Worker("commit", message, seq, Event("Failed", *message)))
    else:
        yield f"{k} will claim", s.with_worker(k, Worker("claim", message, seq))
    if s.budget.releases:
        released = s.with_worker(k, IDLE).spending(s.budget._replace(releases=s.budget.releases - 1))
        yield f"{k} hands back unclaimed", released


def outcome_stands(s: State, message: Rank, broken: Broken) -> bool:
    """Whether nothing is left to run for the message."""
    last = s.last
    if last is None:
        return False
    later = last.attempt > message.attempt if broken is Broken.SNOOZE else last.rank > message
    return s.terminal or later or last[:2] == ("Backoff", message.attempt)


def lost_runs(events: Iterable[Event], attempt: int) -> int:
    """Runs of the attempt that were not refunded by a release or a snooze."""
    log = [event for event in events if event.attempt == attempt]
    refunded = pairwise(log)
    refunds = sum(one.state == "Running" and after.state in ("Queued", "Scheduled") for one, after in refunded)
    return sum(event.state == "Running" for event in log) - refunds


def claim(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Store Running(a), expecting the sequence that was read."""
    again = s.with_worker(k, Worker("got", worker.message))
    if worker.known != len(s.events):
        yield f"{k} claim refused", again
        return
    events = (*s.events, Event("Running", *worker.message))
    running = Worker("run", worker.message, len(events))
    yield f"{k} claims", s.with_worker(k, running)._replace(events=events)
    yield f"{k} claims, confirmation lost", again._replace(events=events)


def run(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """The handler ends, well or not, puts itself off, or is stopped by the deadline or by its worker's shutdown."""
    ends = ["Succeeded", "Backoff" if worker.message.attempt < MAX_ATTEMPTS else "Failed"]
    for state in [*ends, "Expired"] if s.expired else ends:
        ended = worker._replace(step="commit", outcome=Event(state, *worker.message))
        yield f"{k} ends {state}", s.with_worker(k, ended)
    if s.budget.snoozes:
        attempt, snoozes = worker.message
        snoozed = worker._replace(step="commit", outcome=Event("Scheduled", attempt, snoozes + 1))
        yield f"{k} snoozes", s.with_worker(k, snoozed).spending(s.budget._replace(snoozes=s.budget.snoozes - 1))
    if s.budget.releases:
        released = worker._replace(step="commit", outcome=Event("Queued", *worker.message))
        yield f"{k} shuts down", s.with_worker(k, released).spending(s.budget._replace(releases=s.budget.releases - 1))


def commit(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Store the outcome, expecting the sequence of one's own claim (or of the log that was read)."""
    outcome = worker.outcome
    assert outcome is not None
    if worker.known != len(s.events) and broken is not Broken.FENCE:
        fenced = Worker("ack", worker.message, worker.known, outcome) if broken is Broken.ZOMBIE_ACK else IDLE
        yield f"{k} fenced: drops everything, never acks", s.with_worker(k, fenced)
        if outcome_stands(s, worker.message, broken):
            # What a redelivery would find, without waiting for the lease to end (a cancelled task leaves at once).
            found = Worker("consequences", worker.message, len(s.events), s.last)
            yield f"{k} fenced by {s.last}: completes it", s.with_worker(k, found)
        return
    stored = s._replace(events=(*s.events, outcome))
    done = worker._replace(step="ack" if broken is Broken.ORDER else "consequences", known=len(stored.events))
    if outcome.state == "Queued":
        # A release ends with -NAK, which takes nothing from the queue; its lost confirmation is the same as a crash
        # of a worker that leaves anyway: the lease runs out.
        done = done._replace(step="ack") if broken is Broken.RELEASE else IDLE
        yield f"{k} releases", stored.with_worker(k, done)
        return
    yield f"{k} commits {outcome.state}", stored.with_worker(k, done)
    yield f"{k} commits {outcome.state}, confirmation lost", stored.with_worker(k, Worker("got", worker.message))


def consequences(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Complete what the outcome asks for; each is idempotent."""
    outcome = worker.outcome
    assert outcome is not None
    attempt, snoozes = worker.message
    follows = {
        Event("Backoff", attempt, snoozes): Rank(attempt + 1, snoozes),
        Event("Scheduled", attempt, snoozes + 1): Rank(attempt, snoozes + 1),
    }
    nxt = follows.get(outcome)
    # One schedule per task's subject and one Msg-Id per message: what is on its way is not stored again.
    started = nxt and (any(e.rank >= nxt and e != outcome for e in s.events) or nxt in s.queue or nxt in s.delayed)
    after = s._replace(
        delayed=(*s.delayed, nxt) if nxt and not started else s.delayed,
        dead=s.dead | {outcome.rank} if outcome.state == "Failed" else s.dead,
    )
    yield f"{k} consequences of {outcome}", after.with_worker(k, worker._replace(step="ack"))


def ack(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    left = list(s.queue)
    if worker.message in left:
        left.remove(worker.message)
    yield f"{k} acks {worker.message}", s._replace(queue=tuple(left)).with_worker(k, IDLE)


WORKER_STEPS = {
    "idle": deliver,
    "got": decide,
    "claim": claim,
    "run": run,
    "commit": commit,
    "consequences": consequences,
    "ack": ack,
}


def well_ended(s: State) -> bool:
    last = s.last
    letters = {last.rank} if last and last.state == "Failed" else set()
    return s.terminal and not s.queue and not s.delayed and s.dead == letters and s.redriver == AWAY


def outcome_is_final(s: State) -> bool:
    """Nothing follows an outcome, but that a failed task is queued again under the next attempt."""
    return not any(
        before.state in TERMINAL and (before.state, after.state) != ("Failed", "Queued")
        for before, after in pairwise(s.events)
    )


def log_goes_forward(s: State) -> bool:
    """No message is claimed once a later one is in the log: else a snoozed task would run before its time."""
    return all(before.rank <= after.rank for before, after in pairwise(s.events[-2:]))


class Explored(NamedTuple):
    """What an exploration found: `violation` tells the path to the first bad state, empty when there is none."""

    states: int
    violation: str = ""


def explore(scope: Scope, broken: Broken = Broken.NONE) -> Explored:
    """Visit every reachable state of the scope."""
    start = State(scope, workers=(IDLE,) * scope.workers)
    return search(start, lambda s: steps(s, broken), find_problem, well_ended)


def find_problem(s: State) -> str:
    """What must never be, in a few words."""
    if not outcome_is_final(s):
        return "an outcome is not final"
    return "" if log_goes_forward(s) else "an older message runs"


S = TypeVar("S", bound=Hashable)


def search(
    start: S,
    steps_of: Callable[[S], Iterable[tuple[str, S]]],
    problem_of: Callable[[S], str],
    ended_well: Callable[[S], bool],
) -> Explored:
    """Visit every state that can be reached; the first with a problem, or from which no good end can be reached."""
    came_from: dict[S, tuple[str, S] | None] = {start: None}
    before: dict[S, list[S]] = {}
    todo = deque([start])
    while todo:
        s = todo.popleft()
        for name, following in steps_of(s):
            before.setdefault(following, []).append(s)
            if following in came_from:
                continue
            came_from[following] = (name, s)
            if problem := problem_of(following):
                return Explored(len(came_from), f"{problem}: {path(came_from, following)}")
            todo.append(following)
    lost = find_lost(came_from, before, ended_well)
    problem = f"the task can no longer end well: {path(came_from, lost)}" if lost is not None else ""
    return Explored(len(came_from), problem)


def find_lost(states: Iterable[S], before: Mapping[S, list[S]], ended_well: Callable[[S], bool]) -> S | None:
    """The first state from which no path leads to a good end."""
    good = deque(s for s in states if ended_well(s))
    saved = set(good)
    while good:
        for earlier in before.get(good.popleft(), ()):
            if earlier not in saved:
                saved.add(earlier)
                good.append(earlier)
    return next((s for s in states if s not in saved), None)


def path(came_from: Mapping[S, tuple[str, S] | None], state: S) -> str:
    """The steps from the start to a state."""
    names = []
    while step := came_from[state]:
        name, state = step
        names.append(name)
    return " → ".join(reversed(names))


QUICK = (
    Scope(),
    Scope(crashes=1),
    Scope(duplicates=1),
    Scope(crashes=1, cancels=1),
    Scope(releases=1),
    Scope(deadline=True),
    Scope(snoozes=1),
    Scope(crashes=1, redrives=1, workers=1),
)
"""Seconds, for the unit tests."""
LARGE = (
    Scope(crashes=1, releases=1),
    Scope(crashes=1, deadline=True),
    Scope(crashes=1, duplicates=1, cancels=1),
    Scope(crashes=1, duplicates=1, releases=1),
    Scope(crashes=1, releases=1, cancels=1),
    Scope(crashes=1, releases=1, deadline=True),
    Scope(crashes=2, duplicates=1, cancels=1),
    Scope(crashes=2, releases=2),
    Scope(releases=3, duplicates=1),
    Scope(crashes=1, snoozes=1),
    Scope(snoozes=2),
    Scope(redrives=1),
    Scope(crashes=1, redrives=1),
    Scope(redrives=1, snoozes=1),
    Scope(crashes=1, snoozes=1, cancels=1),
)
"""Together with the quick ones 12.3 million states: some minutes."""


def main(arguments: list[str]) -> int:
    broken = Broken(arguments[1]) if arguments[:1] == ["--break"] else Broken.NONE
    return report((scope, explore(scope, broken)) for scope in (*QUICK, *LARGE))


def report(explored: Iterable[tuple[object, Explored]]) -> int:
    """Print each scope as it is explored; 1 at the first with a violation."""
    for scope, (states, violation) in explored:
        print(f"{scope}: {states} states, {violation or 'none bad'}", flush=True)
        if violation:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
