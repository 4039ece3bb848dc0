"""How limits put tasks aside, as a model: every interleaving of two tasks of one concurrency key and two workers.

Owns the rules of docs/protocol.md's "Put aside" in a form that a machine can exhaust: the place of a key (limit 1), the
line in front of it, a start that comes later for a rate's sake, crashes, leases that run out while their holder lives
on, failed attempts, cancels, and the end of the server's window for message ids. What one task's outcome is, is
`protocol_model`'s; here an attempt succeeds, or backs off. Change the model first when the rules must change.

Checked: never do two tasks of the key run; an outcome is final; a copy of a message that was put aside never runs
beside the one that came back; and from every reachable state all tasks can still end, with an empty queue, an empty
line and no place that is held for ever.

    python -m tests.support.limits_model                    explores all scopes
    python -m tests.support.limits_model --break RULE       the same without one rule: it must report a violation
"""

import sys
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from tests.support.protocol_model import Explored, report, search

TERMINAL = ("Succeeded", "Cancelled")


class Broken(Enum):
    """A rule to leave out."""

    NONE = ""
    LEAVE = "leave"
    """A place is given back by task alone: what an old message leaves may be the place of the attempt that runs."""
    ASIDE = "aside"
    """A message knows that it was put aside only while that is the last thing in the log."""
    BACK = "back"
    """A place goes back from a task's later message to an earlier one, which is gone soon."""
    HAND_ON = "hand-on"
    """Whoever hands the place on does not look whether the one who has it is gone."""
    ENDED = "ended"
    """A task on its way from the line counts as there, although it has ended."""
    STALE = "stale"
    """Nobody looks whether the message of a task that has a place is still in the queue."""
    PARK = "park"
    """The message is acked before it stands in the line."""


class Note(NamedTuple):
    """An event of a task's log. `message`: which message it is about; `aside`: "rate" or "place" when put aside."""

    state: str
    attempt: int
    message: int
    aside: str = ""


class Message(NamedTuple):
    """A message of the queue; `number` is unique within its task. `passed`: it has waited for its rate."""

    task: int
    number: int
    attempt: int = 1
    passed: bool = False


class Waiting(NamedTuple):
    """What lies in the line or among the delayed; `cause` is the log's event that put it there, for its message id."""

    task: int
    cause: int
    attempt: int
    passed: bool


class Holder(NamedTuple):
    """`message` is 0 while the task is on its way from the line to the queue."""

    task: int
    message: int


class Worker(NamedTuple):
    """`known`: the log's length that it saw or wrote. `first`: who was first in line when it looked."""

    step: str = "idle"
    message: Message | None = None
    known: int = 0
    outcome: str = ""
    first: Waiting | None = None


IDLE = Worker()


class Scope(NamedTuple):
    """How much may happen in one exploration. `lapses`: leases that run out although their holder lives."""

    crashes: int = 0
    lapses: int = 0
    puts: int = 0
    fails: int = 0
    cancels: int = 0
    forgets: int = 0
    """Ends of the window in which the server knows message ids."""
    tasks: int = 2
    workers: int = 2


class State(NamedTuple):
    """Everything that outlives a step."""

    budget: Scope
    logs: tuple[tuple[Note, ...], ...]
    queue: frozenset[Message]
    workers: tuple[Worker, ...]
    made: tuple[int, ...]
    """Messages that each task has had in the queue."""
    line: tuple[Waiting, ...] = ()
    delayed: frozenset[Waiting] = frozenset()
    places: tuple[Holder, ...] = ()
    ids: frozenset[tuple[str, int, int]] = frozenset()
    """Message ids that the server knows."""
    forgotten: bool = False

    def last(self, task: int) -> Note | None:
        return self.logs[task][-1] if self.logs[task] else None

    def with_worker(self, k: int, worker: Worker) -> "State":
        return self._replace(workers=(*self.workers[:k], worker, *self.workers[k + 1 :]))

    def spend(self, what: str) -> "State":
        return self._replace(budget=self.budget._replace(**{what: getattr(self.budget, what) - 1}))

    def append(self, task: int, note: Note) -> "State":
        return self._replace(logs=(*self.logs[:task], (*self.logs[task], note), *self.logs[task + 1 :]))

    def enqueue(self, one: Waiting) -> "State":
        """Into the queue, under the task's next number."""
        number = self.made[one.task] + 1
        made = (*self.made[: one.task], number, *self.made[one.task + 1 :])
        return self._replace(made=made, queue=self.queue | {Message(one.task, number, one.attempt, one.passed)})

    def is_new(self, name: tuple[str, int, int]) -> bool:
        return name not in self.ids

    def remember(self, name: tuple[str, int, int]) -> "State":
        return self._replace(ids=self.ids | {name})


Step = tuple[str, State]


def start(scope: Scope) -> State:
    """Every task has been submitted."""
    queue = frozenset(Message(task, 1) for task in range(scope.tasks))
    return State(scope, ((),) * scope.tasks, queue, (IDLE,) * scope.workers, (1,) * scope.tasks)


def steps(s: State, broken: Broken) -> Iterator[Step]:
    """Every step that can follow `s`, with its name."""
    yield from environment_steps(s)
    for k, worker in enumerate(s.workers):
        yield from WORKER_STEPS[worker.step](s, k, worker, broken)
        if worker.step != "idle" and s.budget.crashes:
            yield f"crash {k}", s.with_worker(k, IDLE).spend("crashes")


def environment_steps(s: State) -> Iterator[Step]:
    """What happens without a worker."""
    for one in sorted(s.delayed):
        yield f"{one.task} due", s._replace(delayed=s.delayed - {one}).enqueue(one)
    if s.budget.forgets and s.ids:
        yield "message ids are forgotten", s._replace(ids=frozenset(), forgotten=True).spend("forgets")
    for task in range(len(s.logs)) if s.budget.cancels else ():
        last = s.last(task)
        if last is None or last.state not in TERMINAL:
            cancelled = s.append(task, Note("Cancelled", last.attempt if last else 1, 0)).spend("cancels")
            yield f"cancel {task}", cancelled
            # It takes back what is scheduled, right after; or dies before it can.
            left = frozenset(one for one in s.delayed if one.task != task)
            if left != s.delayed:
                yield f"cancel {task} and its delay", cancelled._replace(delayed=left)


def deliver(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """A first delivery, one after a crash, or one of a message whose lease ran out at another worker."""
    held = {one.message for one in s.workers if one.message}
    for message in sorted(s.queue):
        got = s.with_worker(k, Worker("got", message))
        if message not in held:
            yield f"deliver {name_of(message)} to {k}", got
        elif s.budget.lapses:
            yield f"deliver {name_of(message)} to {k} too", got.spend("lapses")


def name_of(message: Message) -> str:
    return f"{message.task}.{message.number}"


def decide(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Read the log and decide."""
    message = own(worker)
    log = s.logs[message.task]
    last = s.last(message.task)
    known = worker._replace(known=len(log))
    put_aside = [note for note in log if note.aside and note.message == message.number]
    if last and last.state in TERMINAL:
        yield f"{k} finds {last.state}", s.with_worker(k, known._replace(step="leave"))
    elif put_aside and last == put_aside[-1]:
        yield f"{k} finds it put aside", s.with_worker(k, known._replace(step="aside"))
    elif put_aside and broken is not Broken.ASIDE:
        # Whatever came after it was written for another message of this task, which goes on by itself.
        yield f"{k} finds an old copy", s.with_worker(k, known._replace(step="ack"))
    elif last and last.attempt > message.attempt:
        step = "leave" if broken is Broken.LEAVE else "ack"
        yield f"{k} finds a later attempt", s.with_worker(k, known._replace(step=step))
    elif last and last[:2] == ("Backoff", message.attempt):
        yield f"{k} finds a backoff", s.with_worker(k, known._replace(step="after", outcome="Backoff"))
    else:
        yield f"{k} enters", s.with_worker(k, known._replace(step="rate"))


def own(worker: Worker) -> Message:
    assert worker.message is not None
    return worker.message


def wait_rate(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """The task's own rate: at once, or later and aside."""
    message = own(worker)
    yield f"{k} may start", s.with_worker(k, worker._replace(step="place"))
    if s.budget.puts and not message.passed:
        note = Note("Scheduled", message.attempt, message.number, "rate")
        yield from _commit_aside(s.spend("puts"), k, worker, note)


def _commit_aside(s: State, k: int, worker: Worker, note: Note) -> Iterator[Step]:
    message = own(worker)
    if worker.known != len(s.logs[message.task]):
        yield f"{k} refused", s.with_worker(k, worker._replace(step="got"))
        return
    known = worker.known + 1
    stored = s.append(message.task, note).with_worker(k, worker._replace(step="aside", known=known))
    yield f"{k} puts {name_of(message)} aside for its {note.aside}", stored


def enter_place(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Take the key's place by compare-and-set; without one, look whether the task that has it is still there."""
    message = own(worker)
    kept = keep(s, message.task, broken)
    if kept and kept[0].task != message.task:
        note = Note("Queued", message.attempt, message.number, "place")
        yield from _commit_aside(s, k, worker, note)
        return
    older = bool(kept) and kept[0].message > message.number and broken is not Broken.BACK
    taken = s._replace(places=kept if older else (Holder(message.task, message.number),))
    yield f"{k} takes the place", taken.with_worker(k, worker._replace(step="claim"))


def keep(s: State, task: int, broken: Broken) -> tuple[Holder, ...]:
    """The places as they are for this task: without one whose task is gone, unless it is its own."""
    if broken is Broken.STALE or not s.places or s.places[0].task == task:
        return s.places
    return tuple(one for one in s.places if not is_stale(s, one, broken))


def is_stale(s: State, holder: Holder, broken: Broken = Broken.NONE) -> bool:
    """Whether nobody will ever give its place back.

    Its message has left the queue; or it was given a place on its way from the line, after it had ended.
    """
    if holder.message:
        return not any(one[:2] == holder for one in s.queue)
    return ended(s, holder.task) and broken is not Broken.ENDED


def claim(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    message = own(worker)
    if worker.known != len(s.logs[message.task]):
        yield f"{k} claim refused", s.with_worker(k, worker._replace(step="got"))
        return
    running = worker._replace(step="run", known=worker.known + 1)
    stored = s.append(message.task, Note("Running", message.attempt, message.number))
    yield f"{k} claims {name_of(message)}", stored.with_worker(k, running)


def run(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    yield f"{k} succeeds", s.with_worker(k, worker._replace(step="commit", outcome="Succeeded"))
    if s.budget.fails:
        failed = worker._replace(step="commit", outcome="Backoff")
        yield f"{k} fails", s.with_worker(k, failed).spend("fails")


def commit(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    message = own(worker)
    if worker.known != len(s.logs[message.task]):
        yield f"{k} fenced", s.with_worker(k, IDLE)
        last = s.last(message.task)
        if last and last.state in TERMINAL:
            yield f"{k} fenced by an end", s.with_worker(k, worker._replace(step="leave"))
        return
    stored = s.append(message.task, Note(worker.outcome, message.attempt, message.number))
    yield f"{k} commits {worker.outcome}", stored.with_worker(k, worker._replace(step="after"))


def consequences(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """A failed attempt is scheduled again; message ids keep that from happening twice."""
    message = own(worker)
    after, name = s, ("retry", message.task, message.attempt + 1)
    if worker.outcome == "Backoff" and s.is_new(name):
        following = Waiting(message.task, 0, message.attempt + 1, passed=False)
        after = s.remember(name)._replace(delayed=s.delayed | {following})
    yield f"{k} completes {worker.outcome}", after.with_worker(k, worker._replace(step="leave"))


def leave(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Give back the place of this very message (or the one that is on its way), then hand it on."""
    message = own(worker)
    mine = (message.number, 0)
    left = tuple(
        one for one in s.places if one.task != message.task or not (broken is Broken.LEAVE or one.message in mine)
    )
    yield f"{k} leaves", s._replace(places=left).with_worker(k, worker._replace(step="hand"))


def ended(s: State, task: int) -> bool:
    last = s.last(task)
    return last is not None and last.state in TERMINAL


def put_aside(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Its event stands: the message waits elsewhere."""
    message = own(worker)
    note = s.logs[message.task][worker.known - 1]
    name = ("aside", message.task, worker.known)
    if note.aside == "rate":
        waiting = Waiting(message.task, worker.known, message.attempt, passed=True)
        after = s.remember(name)._replace(delayed=s.delayed | {waiting}) if s.is_new(name) else s
        # Handed to it while it stood in the line, perhaps.
        yield f"{k} schedules it", after.with_worker(k, worker._replace(step="leave"))
        return
    waiting = Waiting(message.task, worker.known, message.attempt, message.passed)
    if broken is Broken.PARK:
        gone = s._replace(queue=s.queue - {message})
        yield f"{k} acks first", gone.with_worker(k, worker._replace(step="park"))
        return
    yield from park(s, k, worker, broken)


def park(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Into the line; then look whether the place became free meanwhile."""
    message = own(worker)
    waiting = Waiting(message.task, worker.known, message.attempt, message.passed)
    name = ("aside", message.task, worker.known)
    after = s.remember(name)._replace(line=(*s.line, waiting)) if s.is_new(name) else s
    yield f"{k} parks it", after.with_worker(k, worker._replace(step="hand"))


def hand_on(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Look who is first in line."""
    if s.line:
        yield f"{k} sees who is first", s.with_worker(k, worker._replace(step="give", first=s.line[0]))
    else:
        yield f"{k} finds no line", s.with_worker(k, worker._replace(step="ack"))


def give(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """Give the place to who was first, by compare-and-set; who has it may be gone."""
    assert worker.first is not None
    first = worker.first
    kept = keep(s, first.task, broken if broken is not Broken.HAND_ON else Broken.STALE)
    if kept and kept[0].task != first.task:
        yield f"{k} finds it taken", s.with_worker(k, worker._replace(step="ack", first=None))
        return
    given = s._replace(places=kept or (Holder(first.task, 0),))
    yield f"{k} gives the place to {first.task}", given.with_worker(k, worker._replace(step="move"))


def move(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    """From the line to the queue: publish, then take it out of the line."""
    assert worker.first is not None
    first, name = worker.first, ("line", worker.first.task, worker.first.cause)
    after = s.remember(name).enqueue(first) if s.is_new(name) else s
    yield f"{k} moves {first.task}", after.with_worker(k, worker._replace(step="delete"))


def delete(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    line = tuple(one for one in s.line if one != worker.first)
    moved = s._replace(line=line).with_worker(k, worker._replace(step="hand", first=None))
    yield f"{k} takes it out of the line", moved


def ack(s: State, k: int, worker: Worker, broken: Broken) -> Iterator[Step]:
    message = own(worker)
    yield f"{k} acks {name_of(message)}", s._replace(queue=s.queue - {message}).with_worker(k, IDLE)


WORKER_STEPS = {
    "idle": deliver,
    "got": decide,
    "rate": wait_rate,
    "place": enter_place,
    "claim": claim,
    "run": run,
    "commit": commit,
    "after": consequences,
    "leave": leave,
    "aside": put_aside,
    "park": park,
    "hand": hand_on,
    "give": give,
    "move": move,
    "delete": delete,
    "ack": ack,
}


def find_problem(s: State) -> str:
    """What must never be, in a few words."""
    if sum(log[-1].state == "Running" for log in s.logs if log) > 1:
        return "two tasks of one key run"
    for log in s.logs:
        if any(before.state in TERMINAL for before, _ in pairwise(log)):
            return "an outcome is not final"
        # Without the window a copy may come that nobody can tell from the message.
        copies = [(one, two) for one, two in pairwise(log) if one.state == two.state == "Running" and one[1] == two[1]]
        if any(one.message != two.message for one, two in copies) and not s.forgotten:
            return "a copy runs beside the message that came back"
    return ""


def well_ended(s: State) -> bool:
    """All tasks have ended and nothing is left; a place may stay with a message that is gone: the next one frees it."""
    idle = all(worker == IDLE for worker in s.workers)
    free = all(is_stale(s, holder) for holder in s.places)
    done = all(log and log[-1].state in TERMINAL for log in s.logs)
    return idle and free and done and not s.queue and not s.line and not s.delayed


def explore(scope: Scope, broken: Broken = Broken.NONE) -> Explored:
    """Visit every reachable state of the scope."""
    return search(start(scope), lambda s: steps(s, broken), find_problem, well_ended)


QUICK = (
    Scope(),
    Scope(crashes=1),
    Scope(puts=1),
    Scope(fails=1),
)
"""Seconds, for the unit tests."""
LARGE = (
    Scope(lapses=1),
    Scope(cancels=1),
    Scope(crashes=1, fails=1),
    Scope(crashes=1, puts=1),
    Scope(lapses=1, fails=1),
    Scope(lapses=1, puts=1),
    Scope(crashes=1, cancels=1),
    Scope(puts=1, cancels=1),
    Scope(tasks=3),
)
"""Some 0.6 million states with the quick ones. `forgets` is for a person with time: 15 minutes did not exhaust one."""


def main(arguments: list[str]) -> int:
    broken = Broken(arguments[1]) if arguments[:1] == ["--break"] else Broken.NONE
    return report((scope, explore(scope, broken)) for scope in (*QUICK, *LARGE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
