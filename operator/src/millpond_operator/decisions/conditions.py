"""Conditions of a pool and of a task: pure. A condition's time moves only when its status does (metav1.Condition)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from millpond_api.v1alpha1.common import Condition
from millpond_scaling import Decision
from millpond_scaling.engine import PAUSED_BY_SUPERVISOR


@dataclass(frozen=True)
class Fact:
    """What holds of a condition now."""

    type: str
    holds: bool | None
    reason: str
    message: str = ""

    @property
    def status(self) -> str:
        return "Unknown" if self.holds is None else str(self.holds)


def make_conditions(old: Iterable[Condition], facts: Iterable[Fact], now: datetime, generation: int) -> list[Condition]:
    """The facts as conditions; one that keeps its status keeps its time."""
    known = {condition.type: condition for condition in old}
    made = []
    for fact in facts:
        before = known.get(fact.type)
        since = before.last_transition_time if before and before.status == fact.status else None
        made.append(
            Condition(
                type=fact.type,
                status=fact.status,
                reason=fact.reason,
                message=fact.message[:1024],
                last_transition_time=since or now,
                observed_generation=generation,
            )
        )
    return made


@dataclass(frozen=True)
class PoolFacts:
    """What decides a pool's conditions. `trouble` is (reason, message) of the worst that was seen, if any."""

    ready: int
    desired: int
    current: int
    decision_reason: str
    decision_message: str
    queue_ready: bool
    trouble: tuple[str, str] | None = None
    pause: str = "None"
    paused_by: str = ""
    """The sentence of the supervisor that holds it at zero, if one does."""
    missing: tuple[str, str] | None = None
    """(reason, message) of the handlers that tasks wait for and nobody has, if any."""
    mistakes: tuple[str, ...] = ()
    """What is wrong with the spec though the API server took it: schedules that can't be read, for instance."""
    rate: str = ""
    """The pool's rate limit as it is written, empty without one."""
    limited: bool = False
    waiting: int = 0


def decide_pool_facts(seen: PoolFacts) -> list[Fact]:
    """Ready, Scaling, Degraded, Paused and HandlerMissing of a pool; RateLimited of one that has a rate."""
    if not seen.queue_ready:
        ready = Fact("Ready", False, "QueueMissing", "the queue could not be made yet: is NATS reachable?")
    elif seen.trouble and seen.ready < seen.desired:
        ready = Fact("Ready", False, seen.trouble[0], seen.trouble[1])
    elif seen.paused_by:
        ready = Fact("Ready", False, PAUSED_BY_SUPERVISOR, seen.paused_by)
    elif seen.desired == 0 and seen.current == 0:
        ready = Fact("Ready", True, "AtZero", "no workers are needed; a task wakes the pool")
    elif seen.ready >= seen.desired:
        ready = Fact("Ready", True, "WorkersReady", f"{seen.ready} of {seen.desired} workers are ready")
    else:
        ready = Fact("Ready", False, "WorkersStarting", f"{seen.ready} of {seen.desired} workers are ready")
    scaling = Fact("Scaling", seen.current != seen.desired, seen.decision_reason, seen.decision_message)
    degraded = _degraded(seen)
    paused = _paused(seen)
    missing = Fact("HandlerMissing", seen.missing is not None, *(seen.missing or ("AllThere",)))
    return [ready, scaling, degraded, paused, missing, *_limited(seen)]


def _paused(seen: PoolFacts) -> Fact:
    if seen.paused_by:
        return Fact("Paused", True, PAUSED_BY_SUPERVISOR, seen.paused_by)
    return Fact("Paused", seen.pause != "None", f"Pause{seen.pause}" if seen.pause != "None" else "NotPaused")


def _limited(seen: PoolFacts) -> list[Fact]:
    """Whether the pool's rate is what holds its tasks back; a pool without a rate has no such condition."""
    if not seen.rate:
        return []
    if not seen.limited:
        return [Fact("RateLimited", False, "NotReached", f"tasks start as they come, below {seen.rate}")]
    text = f"rateLimit {seen.rate} is reached: {seen.waiting} tasks wait; more workers would not start them sooner"
    return [Fact("RateLimited", True, "RateReached", text)]


def _degraded(seen: PoolFacts) -> Fact:
    """Trouble with workers comes before mistakes in the spec, as the nearer reason why nothing runs, and hides none."""
    said = [seen.trouble] if seen.trouble else []
    said += [("ScheduleIgnored", mistake) for mistake in seen.mistakes]
    if not said:
        return Fact("Degraded", False, "AllWell")
    return Fact("Degraded", True, said[0][0], "; ".join(text for _, text in said))


def say_decision(decision: Decision | None, order: Decision | None) -> tuple[str, str]:
    """Reason and sentence of the Scaling condition; where somebody else has the say, both sentences."""
    if decision is None:
        return "Starting", "no decision yet"
    if order is None or order is decision:
        return decision.reason, decision.message
    return "Shadow", f"{decision.message}; shadow mode leaves the number alone: {order.message}"
