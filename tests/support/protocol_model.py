#!/usr/bin/env python3
"""The task protocol as a model: explores every interleaving of one task and two workers.

Owns the rules of docs/protocol.md in a form that a machine can exhaust: crashes, zombies (a lease that ran out while
its holder lives on), lost confirmations, releases at shutdown, a deadline, a duplicate submission, a cancel. It imports
nothing of Millpond on purpose: the code is held against it by tests/broker/test_protocol_machine.py. Change the model
first when the protocol must change.

Checked: an outcome is recorded once and nothing follows it; from every reachable state the task can still end well
(outcome recorded, queue and delays empty, a dead letter exactly when it failed), so no state is stuck and nothing lost.

    protocol_model.py                    explores all scopes (minutes)
    protocol_model.py --break RULE       the same without one rule, which must report a violation
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

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


class Event(NamedTuple):
    state: str
    attempt: int


class Worker(NamedTuple):
    """`known` is the last sequence that it saw or wrote (-1: none yet); `outcome` what it is about to commit."""

    step: str = "idle"
    attempt: int = 0
    known: int = -1
    outcome: Event | None = None


IDLE = Worker()


class Scope(NamedTuple):
    """How much may go wrong in one exploration."""

    crashes: int = 0
    duplicates: int = 0
    cancels: int = 0
    releases: int = 0
    deadline: bool = False


class State(NamedTuple):
    """Everything that outlives a step. The number of events is the log's last sequence."""

    budget: Scope
    events: tuple[Event, ...] = ()
    queue: tuple[int, ...] = (1,)
    """Attempts waiting or in flight: a delivery does not remove them, an ack does."""
    delayed: tuple[int, ...] = ()
    dead: bool = False
    expired: bool = False
    """The deadline has passed."""
    workers: tuple[Worker, ...] = (IDLE, IDLE)

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
            s._replace(queue=(*s.queue, 1)).spending(budget._replace(duplicates=budget.duplicates - 1)),
        )
    if budget.cancels and not s.terminal:
        cancelled = Event("Cancelled", s.last.attempt if s.last else 1)
        yield "cancel", s._replace(events=(*s.events, cancelled)).spending(budget._replace(cancels=budget.cancels - 1))
    if budget.deadline and not s.expired:
        yield "deadline passes", s._replace(expired=True)
    for i, attempt in enumerate(s.delayed):
        yield "due", s._replace(delayed=s.delayed[:i] + s.delayed[i + 1 :], queue=(*s.queue, attempt))


def deliver(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """A first delivery, or a redelivery while another worker may still run it."""
    for attempt in sorted(set(s.queue)):
        yield f"deliver {attempt} to {k}", s.with_worker(k, Worker("got", attempt))


def decide(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Read the log and decide (protocol, step 2)."""
    last, seq, attempt = s.last, len(s.events), worker.attempt
    if outcome_stands(s, attempt):
        yield f"{k} finds {last}", s.with_worker(k, Worker("consequences", attempt, seq, last))
    elif s.expired:
        yield f"{k} finds it late", s.with_worker(k, Worker("commit", attempt, seq, Event("Expired", attempt)))
    elif last == Event("Running", attempt) and lost_runs(s.events, attempt) >= POISON:
        yield f"{k} quarantines", s.with_worker(k, Worker("commit", attempt, seq, Event("Failed", attempt)))
    else:
        yield f"{k} will claim", s.with_worker(k, Worker("claim", attempt, seq))
    if s.budget.releases:
        released = s.with_worker(k, IDLE).spending(s.budget._replace(releases=s.budget.releases - 1))
        yield f"{k} hands back unclaimed", released


def outcome_stands(s: State, attempt: int) -> bool:
    """Whether nothing is left to run for the attempt."""
    last = s.last
    return last is not None and (s.terminal or last.attempt > attempt or last == Event("Backoff", attempt))


def lost_runs(events: Iterable[Event], attempt: int) -> int:
    """Runs of the attempt that were not refunded by a release."""
    log = list(events)
    return log.count(Event("Running", attempt)) - log.count(Event("Queued", attempt))


def claim(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Store Running(a), expecting the sequence that was read."""
    again = s.with_worker(k, Worker("got", worker.attempt))
    if worker.known != len(s.events):
        yield f"{k} claim refused", again
        return
    events = (*s.events, Event("Running", worker.attempt))
    running = Worker("run", worker.attempt, len(events))
    yield f"{k} claims", s.with_worker(k, running)._replace(events=events)
    yield f"{k} claims, confirmation lost", again._replace(events=events)


def run(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """The handler ends, well or not, or is stopped by the deadline or by its worker's shutdown."""
    ends = ["Succeeded", "Backoff" if worker.attempt < MAX_ATTEMPTS else "Failed"]
    for state in [*ends, "Expired"] if s.expired else ends:
        ended = worker._replace(step="commit", outcome=Event(state, worker.attempt))
        yield f"{k} ends {state}", s.with_worker(k, ended)
    if s.budget.releases:
        released = worker._replace(step="commit", outcome=Event("Queued", worker.attempt))
        yield f"{k} shuts down", s.with_worker(k, released).spending(s.budget._replace(releases=s.budget.releases - 1))


def commit(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Store the outcome, expecting the sequence of one's own claim (or of the log that was read)."""
    outcome = worker.outcome
    assert outcome is not None
    if worker.known != len(s.events) and broken is not Broken.FENCE:
        fenced = Worker("ack", worker.attempt, worker.known, outcome) if broken is Broken.ZOMBIE_ACK else IDLE
        yield f"{k} fenced: drops everything, never acks", s.with_worker(k, fenced)
        if outcome_stands(s, worker.attempt):
            # What a redelivery would find, without waiting for the lease to end (a cancelled task leaves at once).
            found = Worker("consequences", worker.attempt, len(s.events), s.last)
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
    yield f"{k} commits {outcome.state}, confirmation lost", stored.with_worker(k, Worker("got", worker.attempt))


def consequences(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Complete what the outcome asks for; each is idempotent."""
    outcome = worker.outcome
    assert outcome is not None
    nxt = outcome.attempt + 1
    # One schedule per task's subject and one Msg-Id per attempt: what is on its way is not stored again.
    started = any(event.attempt >= nxt for event in s.events) or nxt in s.queue or nxt in s.delayed
    backoff = outcome == Event("Backoff", worker.attempt) and not started
    after = s._replace(
        delayed=(*s.delayed, nxt) if backoff else s.delayed,
        dead=s.dead or outcome.state == "Failed",
    )
    yield f"{k} consequences of {outcome}", after.with_worker(k, worker._replace(step="ack"))


def ack(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    left = list(s.queue)
    if worker.attempt in left:
        left.remove(worker.attempt)
    yield f"{k} acks {worker.attempt}", s._replace(queue=tuple(left)).with_worker(k, IDLE)


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
    return s.terminal and not s.queue and not s.delayed and s.dead == (s.events[-1].state == "Failed")


def outcome_is_final(s: State) -> bool:
    return not any(event.state in TERMINAL for event in s.events[:-1])


class Explored(NamedTuple):
    """What an exploration found: `violation` tells the path to the first bad state, empty when there is none."""

    states: int
    violation: str = ""


def explore(scope: Scope, broken: Broken = Broken.NONE) -> Explored:
    """Visit every reachable state of the scope."""
    start = State(scope)
    came_from: dict[State, Step | None] = {start: None}
    before: dict[State, list[State]] = {}
    todo = deque([start])
    while todo:
        s = todo.popleft()
        for name, following in steps(s, broken):
            before.setdefault(following, []).append(s)
            if following in came_from:
                continue
            came_from[following] = (name, s)
            if not outcome_is_final(following):
                return Explored(len(came_from), f"an outcome is not final: {path(came_from, following)}")
            todo.append(following)
    lost = find_lost(came_from, before)
    problem = f"the task can no longer end well: {path(came_from, lost)}" if lost else ""
    return Explored(len(came_from), problem)


def find_lost(states: Iterable[State], before: dict[State, list[State]]) -> State | None:
    """The first state from which no path leads to a good end."""
    good = deque(s for s in states if well_ended(s))
    saved = set(good)
    while good:
        for earlier in before.get(good.popleft(), ()):
            if earlier not in saved:
                saved.add(earlier)
                good.append(earlier)
    return next((s for s in states if s not in saved), None)


def path(came_from: dict[State, Step | None], state: State) -> str:
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
)
"""Six and a half million states, about four minutes."""


def main(arguments: list[str]) -> int:
    broken = Broken(arguments[1]) if arguments[:1] == ["--break"] else Broken.NONE
    for scope in (*QUICK, *LARGE):
        states, violation = explore(scope, broken)
        print(f"{scope}: {states} states, {violation or 'none bad'}", flush=True)
        if violation:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
