"""The rules of a lease: who may call, when it ends, and what its log means to the client that waits for it. Pure.

A lease is a task of the built-in handler `millpond.lease`; the worker's claim grants it. Owns fencing (a token is the
claim's stream sequence, compared for equality) and the times; the clock is an argument. `worker.tenancy` and
`checkout` apply what is decided here. `tests/support/lease_model.py` checks the rules by exhausting them.
"""

from dataclasses import dataclass

from millpond_api.events import TaskEvent
from millpond_api.leases import LeaseAsk
from millpond_api.lifecycle import TERMINAL, TaskState

from millpond.outcomes import Verdict

RENEWALS = 3
"""A client renews so many times in a TTL: two lost renewals lose no lease."""
STALL = 0.25
"""Of the TTL: a look at the time that comes later than this was held up with everything else in the worker, renewals
that have arrived included, so the owner gets one renewal's time more."""

CHECKED_IN = Verdict(TaskState.SUCCEEDED, "CheckedIn", "the client checked it in")


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds. `longest`: however well it is renewed (None: no bound)."""

    ttl: float
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class Tenure:
    """A lease at its worker: when it was opened, and until when its owner counts as alive without another word."""

    opened: float
    until: float


def open_tenure(terms: Terms, now: float) -> Tenure:
    return Tenure(now, now + terms.ttl)


def renew(tenure: Tenure, terms: Terms, now: float) -> Tenure:
    """The owner was heard."""
    return Tenure(tenure.opened, max(tenure.until, now + terms.ttl))


def next_look(tenure: Tenure, terms: Terms) -> float:
    """When `decide_end` has something to say at the earliest."""
    return tenure.until if terms.longest is None else min(tenure.until, tenure.opened + terms.longest)


def decide_end(tenure: Tenure, terms: Terms, planned: float, now: float) -> Verdict | Tenure:
    """Whether the time is over, at a look that was `planned` for then; else the tenure that goes on."""
    if terms.longest is not None and now >= tenure.opened + terms.longest:
        return Verdict(TaskState.EXPIRED, "MaxDuration", f"held for {terms.longest:g} s, the pool's leases.maxDuration")
    if now < tenure.until:
        return tenure
    if now - planned > STALL * terms.ttl:
        return Tenure(tenure.opened, now + terms.ttl / RENEWALS)
    return Verdict(TaskState.CANCELLED, "OwnerLost", f"its owner was not heard of for {terms.ttl:g} s")


def find_refusal(ask: LeaseAsk, token: int | None, ended: Verdict | None) -> str:
    """Why this ask may not be served by the worker that holds the lease under `token`; empty when it may."""
    if token is None:
        return f"lease {ask.lease} is not here: it has ended, or another worker has it; check out again"
    if ask.token != token:
        age = "older" if ask.token < token else "newer"
        return f"lease {ask.lease} is held here under token {token}; {ask.token} is an {age} one: check out again"
    if ended is not None:
        return f"lease {ask.lease} has ended ({ended.reason}: {ended.message}): check out again"
    return ""


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease is held by this worker under this token."""

    worker: str
    token: int


@dataclass(frozen=True, slots=True)
class Over:
    """It is not ours (any more), and why."""

    reason: str


def read_step(held: Granted | None, event: TaskEvent, *, taken: bool) -> Granted | Over | None:
    """What an event of the lease's log means to its client; None: nothing new.

    `taken`: the client has been told that it holds the lease. From then on every later claim is somebody's grant to
    an owner who has lost the state that the lease had; before that a later claim is the grant that it waits for.
    """
    if held is not None and event.sequence <= held.token:
        return None
    if event.state in TERMINAL:
        return Over(f"it has ended: {event.reason}{f' ({event.message})' if event.message else ''}")
    if event.state == TaskState.RUNNING:
        return Over("its worker was lost") if taken else Granted(event.worker, event.sequence)
    return Over("its worker was stopped before it was checked in") if taken else None
