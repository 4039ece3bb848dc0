"""How the workers of a pool move from old versions of its template to the new one: pure.

`decide_raises` says how many workers the versions get, `decide_drains` which old workers are asked to go. The bounds
are a Deployment's (maxSurge, maxUnavailable), with one difference: a busy worker is only asked to take nothing new. It
is removed when it is done, however long that takes, and until then it counts as one of the surge.

Nothing here counts on order or on having been called before: every step is decided from what is there, so a leader may
die between any two. Idea of a Deployment for each version: Temporal's worker controller (rainbow deployments).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from millpond_api.v1alpha1.rollout import Rollout, count_of

from millpond_operator.decisions.shrink import Candidate, Step, is_drained, is_serving, is_unsettled

Role = Literal["new", "kept", "old"]
"""`new` has the say; `kept` is the proven one beside a canary; `old` is to go."""


@dataclass(frozen=True)
class Side:
    """One version as it was seen: the workers that it is asked for, and those that have a pod."""

    version: str
    role: Role
    replicas: int
    workers: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Goal:
    """Where the rollout goes.

    `total` workers are what scaling asks for; `new` and `kept` how many of them each version should have in the end
    (of this phase). `surge` may be there beyond the total, `unavailable` may be missing from it.
    """

    total: int
    new: int
    kept: int = 0
    surge: int = 1
    unavailable: int = 0


def make_goal(total: int, rollout: Rollout, *, canary: bool) -> Goal:
    """The goal for `total` workers; `canary`: the new version has not proven itself yet.

    A canary has at least one worker, and beside it at least one proven worker serves as long as the surge has room.
    """
    surge = count_of(rollout.max_surge, total, up=True)
    unavailable = count_of(rollout.max_unavailable, total, up=False)
    if surge == 0 and unavailable == 0 and total:
        unavailable = 1  # rounding must not make a rollout impossible (Kubernetes' ResolveFenceposts does the same)
    if not canary or rollout.canary is None or total == 0:
        return Goal(total, total, 0, surge, unavailable)
    share = min(total, max(1, total * rollout.canary.share // 100))
    kept = min(max(total - share, 1), total + surge - share)
    return Goal(total, share, kept, surge, unavailable)


def count_without_surge(old: int, total: int, desired: int) -> int:
    """Workers that scaling has asked for, where a rollout is found whose leader died before it wrote the number down.

    `old`: replicas of the old versions, `total`: of all, some of them surge; `desired`: the last decision that was
    written, which may be older than what was done. Counting the surge would scale the pool down at once: the new
    version's worker, not ready yet, would go and come again.
    """
    return max(old, min(total, desired))


def decide_raises(sides: Sequence[Side], goal: Goal) -> dict[str, int]:
    """New numbers of workers for versions that should have more: never beyond total + surge together."""
    there = sum(side.replicas for side in sides)
    raises = {}
    for role, wanted in (("new", goal.new), ("kept", goal.kept)):
        for side in (one for one in sides if one.role == role):
            raised = min(wanted, side.replicas + goal.total + goal.surge - there)
            if raised > side.replicas:
                raises[side.version] = raised
                there += raised - side.replicas
    return raises


def decide_drains(sides: Sequence[Side], goal: Goal) -> dict[str, tuple[tuple[str, Step], ...]]:
    """Steps for workers of old versions, by version. Those that serve go only as far as enough others serve."""
    serving = sum(1 for side in sides for worker in side.workers if is_serving(worker))
    room = serving - max(0, goal.total - goal.unavailable)
    steps = {}
    for side in sides:
        excess = side.replicas - (goal.kept if side.role == "kept" else 0)
        if side.role == "new" or excess <= 0:
            continue
        found = _drain_side(side, excess, max(0, room))
        room -= sum(1 for _, step in found if step is not Step.RETIRE)
        if found:
            steps[side.version] = found
    return steps


def _drain_side(side: Side, excess: int, room: int) -> tuple[tuple[str, Step], ...]:
    here = [worker for worker in side.workers if not worker.going]
    stuck = [w for w in here if w.stuck]
    starting = any(is_unsettled(w) for w in here)
    drained = [] if starting else [w for w in here if is_drained(w) and not w.stuck]
    finishing = sum(1 for w in here if w.state == "Draining" and w.in_flight > 0)
    retired = [*stuck, *drained][:excess]
    take = min(room, excess - len(retired) - finishing)
    idle = sorted((w for w in here if w.state == "Idle" and is_serving(w)), key=lambda w: w.started)
    busy = sorted(
        (w for w in here if w.state in ("Busy", "Leased") and is_serving(w)), key=lambda w: (w.in_flight, w.started)
    )
    asked = [] if starting else idle[: max(0, take)]
    told = busy[: max(0, take - len(asked))]
    return (
        *((w.name, Step.RETIRE) for w in retired),
        *((w.name, Step.ASK) for w in asked),
        *((w.name, Step.DRAIN) for w in told),
    )


def is_complete(sides: Sequence[Side], goal: Goal) -> bool:
    """Nothing old is left, the new version has all workers, and at least one of them serves."""
    new = [side for side in sides if side.role == "new"]
    gone = all(side.replicas == 0 for side in sides if side.role != "new")
    proven = goal.total == 0 or any(is_serving(worker) for side in new for worker in side.workers)
    return bool(new) and gone and proven and sum(side.replicas for side in new) >= goal.total


def describe(sides: Sequence[Side], goal: Goal) -> str:
    """One sentence on how far it is."""
    new = [worker for side in sides if side.role == "new" for worker in side.workers]
    old = [worker for side in sides if side.role != "new" for worker in side.workers if not worker.going]
    ready = sum(1 for worker in new if is_serving(worker))
    parts = [f"{ready} of {goal.new} new workers are ready"]
    finishing = sum(1 for worker in old if worker.state == "Draining" and worker.in_flight)
    if old:
        parts.append(f"{len(old)} old {'one is' if len(old) == 1 else 'ones are'} left")
    if finishing:
        parts.append(f"{finishing} of them finish{'es' if finishing == 1 else ''} what runs")
    return ", ".join(parts)
