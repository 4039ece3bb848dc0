"""The words of a lease on the wire: what its owner asks of the worker that holds the slot, and what it answers.

Owns the reserved handler's name, the verbs and the models; who may call, and when a lease ends, is said in
`millpond.leasing`. Unknown fields are ignored, so sides of different versions understand each other.
"""

from pydantic import Field

from millpond_api.events import Parcel, RpcAnswer, TaskError
from millpond_api.wire import Wire

LEASE_HANDLER = "millpond.lease"
"""The handler's name in the message by which a client waits for a slot. Apps may not register names like it."""
RESERVED = "millpond."
LEASE_CLASS = "lease"
"""The class in which clients wait, where the pool declares one of this name."""
CALL, RENEW, CHECK_IN, DROP = "call", "renew", "checkin", "drop"


class LeaseAsk(Wire):
    """Who asks: in the body, and for `call` (whose body is the arguments) in the header `Mp-Lease`.

    `token` is the stream sequence of the claim that granted the lease: it only grows, and is compared for equality.
    """

    lease: str
    token: int
    call: int = Field(default=0, ge=0)
    """The number of a call, from 1: asked again under its number, it runs once."""
    seen: int = Field(default=0, ge=0)
    """The answers of calls up to this number have arrived and need not be kept."""
    again: bool = False
    """The call was sent before, and its arguments are not sent once more."""


STALE, REFUSED, RESEND = "StaleLease", "CallRefused", "Resend"
"""Codes of an answer: another token or an ended lease; a call that cannot run; a call whose arguments never came."""


class LeaseAnswer(RpcAnswer):
    """What the worker says. With `ok` and a call: its result (None without a parcel) or its error."""

    ttl: float = 0.0
    """Seconds without a word from its owner after which the lease ends."""
    parcel: Parcel | None = None
    error: TaskError | None = None
