"""Which workers go when a pool shrinks: pure. A busy worker is never among them.

A worker that has not started is not chosen either (it may claim a task at any moment) unless it cannot start at all.
Workers that an earlier shrink already drained come first: they take nothing any more and only hold a place.
When a bound forces the pool below what is busy (kubectl scale, a lower maxWorkers), the surplus is drained gently:
such workers finish what they run, take nothing new, and go when they are done.
"""

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """What can be done to a worker now."""

    RETIRE = "retire"  # takes nothing and runs nothing: remove its pod
    ASK = "ask"  # idle: drain it if it still is
    DRAIN = "drain"  # busy: let it finish and take nothing new


@dataclass(frozen=True)
class Candidate:
    """A worker pod as it was last seen. `started` is when its process began (seconds), `version` its template's."""

    name: str
    state: str
    in_flight: int = 0
    started: float = 0.0
    fresh: bool = True
    stuck: bool = False
    going: bool = False
    ready: bool = True
    version: str = ""


def is_serving(worker: Candidate) -> bool:
    """Whether it is ready and takes tasks, or would when it has a free slot."""
    takes_part = worker.state in ("Idle", "Busy", "Leased")
    return takes_part and worker.fresh and worker.ready and not worker.stuck and not worker.going


def is_drained(worker: Candidate) -> bool:
    """Whether it runs nothing and takes nothing any more, and nobody is removing it yet."""
    ended = worker.state in ("Draining", "Stopped") and worker.in_flight == 0
    return ended and worker.fresh and not worker.going


def is_unsettled(worker: Candidate) -> bool:
    """Whether its pod is not ready and may do something all the same: it starts, or its probe fails on a busy node.

    The ReplicaSet removes pods that are not ready before any other, whatever they cost: while there is one that has to
    start or to finish, it would go instead of the one that was drained.
    """
    here = not worker.stuck and not worker.going
    return here and (worker.state == "Starting" or not (worker.ready or is_drained(worker)))


@dataclass(frozen=True)
class Plan:
    """Steps by worker, and the sentence when fewer can go than should."""

    steps: tuple[tuple[str, Step], ...]
    held: str = ""


def decide_victims(candidates: list[Candidate], surplus: int, *, forced: bool) -> Plan:
    """At most `surplus` steps. `forced`: the bound is a person's, so busy workers are drained too."""
    here = [worker for worker in candidates if not worker.going]
    stuck = [w for w in here if w.stuck]
    drained = [w for w in here if not w.stuck and is_drained(w)]
    # The newest go first: they have the least in their caches, and the oldest have proven themselves.
    idle = sorted((w for w in here if w.state == "Idle" and w.fresh and not w.stuck), key=lambda w: -w.started)
    busy = sorted(
        (w for w in here if w.state in ("Busy", "Leased") and w.fresh), key=lambda w: (w.in_flight, -w.started)
    )
    finishing = [w for w in here if w.state == "Draining" and w.in_flight > 0]
    starting = [w for w in here if is_unsettled(w)]
    steps: list[tuple[str, Step]] = [(w.name, Step.RETIRE) for w in (*stuck, *drained)][:surplus]
    if starting:
        retired = [step for step in steps if step[0] in {w.name for w in stuck}]
        return Plan(tuple(retired), f"{len(starting)} not ready: waiting until they are before any goes")
    rest = surplus - len(steps) - len(finishing)
    steps += [(w.name, Step.ASK) for w in idle[: max(0, rest)]]
    rest -= min(len(idle), max(0, rest))
    if rest > 0 and forced:
        steps += [(w.name, Step.DRAIN) for w in busy[:rest]]
    missing = surplus - sum(1 for _, step in steps if step is not Step.DRAIN)
    held = f"{missing} more would go, but are busy" if missing > 0 else ""
    return Plan(tuple(steps), held)
