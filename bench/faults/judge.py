"""What became of the tasks of a fault run: pure, from their logs and from what the handlers recorded themselves.

Owns the counts. It believes neither the workers nor the client: an outcome is a terminal event in MILLPOND_EVENTS, a
run is a line of the record, and what the client was given has to be what the log says.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from millpond_api.events import TaskEvent
from millpond_api.lifecycle import TERMINAL, TaskState
from pydantic import BaseModel

from bench.figures import make_table
from bench.machine import Machine


@dataclass(frozen=True)
class Run:
    """One beginning of a handler; the handler returns `token` if it comes to its end."""

    task: str
    attempt: int
    worker: str
    token: str


@dataclass
class Record:
    """The handlers' own record."""

    runs: list[Run] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    strikes: int = 0


def parse_record(lines: Iterable[Sequence[str]]) -> Record:
    """From the words of each line: `begin task attempt worker token`, `end token`, `fault …`."""
    record = Record()
    for words in lines:
        match words:
            case ["begin", task, attempt, worker, token]:
                record.runs.append(Run(task, int(attempt), worker, token))
            case ["end", token]:
                record.ended.append(token)
            case ["fault", *_]:
                record.strikes += 1
    return record


class Verdict(BaseModel):
    """The counts of one fault. `lost`, `stale`, `two_outcomes`, `failed` and `left` must be 0."""

    fault: str
    tasks: int
    strikes: int
    """How often the fault was done."""
    lost: int
    """Tasks without an outcome in their log."""
    stale: int
    """Outcomes that are not of the last claim before them and its last run, or not what the client got."""
    two_outcomes: int
    failed: int
    """Tasks that ended otherwise than Succeeded."""
    left: int
    """Messages in the queue at the end."""
    began_again: int
    """Runs beyond the first of the same attempt: duplicate executions."""
    ended_again: int
    """Of those runs, how many came to the handler's end beside another one."""
    redelivered: int | None = None
    """Deliveries beyond the first of each message; None in results that are older than the count."""

    @property
    def held(self) -> bool:
        return self.strikes > 0 and not (self.lost or self.stale or self.two_outcomes or self.failed or self.left)


@dataclass(frozen=True)
class Case:
    """What is known of one fault's run: the tasks, their logs in order, what the client was given."""

    fault: str
    tasks: Sequence[str]
    logs: Mapping[str, Sequence[TaskEvent]]
    received: Mapping[str, object]
    left: int
    strikes: int = 0
    """Faults done from outside; the record has those from inside."""
    redelivered: int | None = None


def judge(case: Case, record: Record) -> Verdict:
    """The counts of one run."""
    ends = {task: [one for one in case.logs.get(task, ()) if one.state in TERMINAL] for task in case.tasks}
    latest = {(run.task, run.attempt, run.worker): run.token for run in record.runs}
    runs = Counter((run.task, run.attempt) for run in record.runs)
    attempts = {run.token: (run.task, run.attempt) for run in record.runs}
    finished = Counter(attempts[token] for token in record.ended if token in attempts)
    return Verdict(
        fault=case.fault,
        tasks=len(case.tasks),
        strikes=case.strikes + record.strikes,
        lost=sum(not found for found in ends.values()),
        stale=sum(_is_stale(task, case, latest) for task in case.tasks if ends[task]),
        two_outcomes=sum(len(found) > 1 for found in ends.values()),
        failed=sum(any(one.state != TaskState.SUCCEEDED for one in found) for found in ends.values()),
        left=case.left,
        began_again=sum(count - 1 for count in runs.values()),
        ended_again=sum(count - 1 for count in finished.values()),
        redelivered=case.redelivered,
    )


def _is_stale(task: str, case: Case, latest: Mapping[tuple[str, int, str], str]) -> bool:
    """Whether the outcome is of somebody who did not have the task any more."""
    log = list(case.logs[task])
    end = next(place for place, one in enumerate(log) if one.state in TERMINAL)
    claims = [one for one in log[:end] if one.state == TaskState.RUNNING]
    outcome = log[end]
    if not claims or (claims[-1].worker, claims[-1].attempt) != (outcome.worker, outcome.attempt):
        return True
    if outcome.state != TaskState.SUCCEEDED:
        return False
    run = latest.get((task, outcome.attempt, outcome.worker))
    return run is None or outcome.result != run or case.received.get(task) != run


class FaultResult(BaseModel):
    """docs/benchmarks/faults.json."""

    machine: Machine
    verdicts: list[Verdict]


HEADER = ("fault", "times", "tasks", "lost", "stale", "two outcomes", "failed", "left", "began again", "ended again")


def make_fault_table(verdicts: Sequence[Verdict]) -> str:
    """One row for each fault; with the redeliveries where all of them know theirs."""
    counted = bool(verdicts) and all(one.redelivered is not None for one in verdicts)
    header = (*HEADER, "delivered again") if counted else HEADER
    return make_table(header, [_make_row(one)[: len(header)] for one in verdicts])


def _make_row(one: Verdict) -> list[str]:
    kept = (one.strikes, one.tasks, one.lost, one.stale, one.two_outcomes, one.failed, one.left)
    return [one.fault, *(f"{n:,}" for n in (*kept, one.began_again, one.ended_again, one.redelivered or 0))]
