"""How long an attempt may run, and where: the task's word, else the handler's, else the pool's. Pure.

Owns the precedence alone; `worker.watch` keeps the times and `worker.executors` the places.
"""

from dataclasses import dataclass

from millpond_api.envelope import Envelope

from millpond.registry import Handler, Isolation
from millpond.settings import Settings

STOP_GRACE = 5.0
"""Seconds that what runs has to end when it is asked to, before it is ended by force."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds from the start of the handler; None: no limit."""

    soft: float | None = None
    hard: float | None = None


NONE = Limits()


def choose_limits(envelope: Envelope, handler: Handler, pool: Settings) -> Limits:
    """The limits of an attempt. A soft one that is not before the hard one could never be heard and is dropped."""
    hard = envelope.timeout or handler.timeout or pool.timeout
    soft = envelope.soft_timeout or handler.soft_timeout or pool.soft_timeout
    if hard is None and soft is None:
        return NONE
    return Limits(soft if soft and (hard is None or soft < hard) else None, hard)


def choose_isolation(handler: Handler, pool: str) -> Isolation:
    """Where the handler runs. A plain function is never inline: it would hold up everybody else's async handlers."""
    wanted = handler.isolation or pool
    if wanted == "process":
        return "process"
    if wanted == "thread" or not handler.is_async:
        return "thread"
    return "inline"
