"""Which scaling decisions are worth writing down: pure.

Owns two judgements: what goes into the ledger stream (everything that changed, and a sign of life while a pool works),
and what a person finds in `status.decisions` besides the changes that were made: growth that a rule refused, and in
shadow mode what would have been done.
"""

from dataclasses import dataclass
from datetime import datetime

from millpond_api.v1alpha1.workerpool import Decision as Entry
from millpond_scaling import Decision, Observation, Policy

SIGN_OF_LIFE = 30.0
"""Seconds between two records of a pool that works and stays as it is."""


@dataclass(frozen=True)
class Recorded:
    """What was written last of a pool: (target, reason, clamp), and when."""

    what: tuple[int, str, str]
    at: float


def what_of(decision: Decision) -> tuple[int, str, str]:
    """What makes two decisions different."""
    return decision.target, decision.reason, decision.clamp


def is_news(last: Recorded | None, decision: Decision, seen: Observation, now: float) -> bool:
    """Whether the stream gets a record of this decision."""
    if last is None or last.what != what_of(decision):
        return True
    at_rest = seen.lag == 0 and seen.in_flight == 0 and not decision.changes
    return not at_rest and now - last.at >= SIGN_OF_LIFE


def decide_entry(newest: Entry | None, policy: Policy, decision: Decision, at: datetime) -> Entry | None:
    """The entry for status.decisions of a decision that changes nothing; None when it says nothing new."""
    if policy.shadow:
        told = newest is not None and not newest.acted and newest.target == decision.target
        worth = decision.changes and not told
    else:
        told = newest is not None and (newest.target, newest.clamp) == (decision.target, decision.clamp)
        worth = is_refused(decision) and not told
    return make_entry(decision, decision.target, at, acted=False) if worth else None


def is_refused(decision: Decision) -> bool:
    """Whether a rule kept the pool from growing as its queue needs, and the number stays as it is."""
    needed = decision.inputs.get("needed")
    return bool(decision.clamp) and not decision.changes and isinstance(needed, int) and needed > decision.target


def make_entry(decision: Decision, target: int, at: datetime, *, acted: bool = True) -> Entry:
    """A decision as people read it in the status."""
    return Entry(
        at=at,
        source=decision.current,
        target=target,
        reason=decision.reason,
        message=decision.message,
        clamp=decision.clamp,
        acted=acted,
        inputs=dict(decision.inputs),
    )
