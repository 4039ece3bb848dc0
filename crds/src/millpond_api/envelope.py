"""The envelope: what travels with a task beside its payload.

It is one JSON object in the header `Mp-Envelope`; the body is the payload: `{"args": […], "kwargs": {…}}` in the
envelope's codec. A message that cannot be read raises `MalformedTask`, which ends as a dead letter, never as a crash.
"""

from datetime import datetime
from typing import Any

import pydantic
from pydantic import Field

from millpond_api.retry import RetryPolicy
from millpond_api.wire import Wire

MOST = 2**53
"""Counts above this are no counts: JSON's readers would not agree on them, and an event could not carry them."""


MOST_KEY = 256
"""Characters of a key: it travels in every header and stands in sentences."""


class MalformedTask(ValueError):
    """The message is not a Millpond task; the text says which part is wrong."""


class Envelope(Wire):
    """A task without its payload. `attempt` counts from 1; `retry` overrides the handler's and the pool's policy."""

    v: int = 1
    id: str
    handler: str
    codec: str = Field(default="json", min_length=1, max_length=64)
    zip: str = Field(default="", max_length=64)
    """How the payload is compressed: "" or "zstd"."""
    accepts: str = Field(default="", max_length=64)
    """The compression that the submitter reads in a result: "" or "zstd"."""
    task_class: str = Field(default="default", alias="class")
    attempt: int = Field(default=1, ge=1, le=MOST)
    enqueued: datetime
    deadline: datetime | None = None
    retry: RetryPolicy | None = None
    snoozes: int = Field(default=0, ge=0, le=MOST)
    """How often a handler has put it off. Together with `attempt` it says which of a task's messages is the later."""
    redrives: int = Field(default=0, ge=0, le=MOST)
    """How often it was put back from the dead letters."""
    spent: int = Field(default=0, ge=0, le=MOST)
    """Attempts made before the last redrive: its retry policy counts from there."""
    object: str = Field(default="", max_length=253)
    parent: str = Field(default="", max_length=253)
    trace: str = ""
    """W3C traceparent of the submitter, empty when there is none."""
    fair: str = Field(default="", max_length=MOST_KEY)
    """Fairness key: tasks of one key wait behind each other, and not before those of another key."""
    lane: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,16}$")
    """Where in its class it waits, as its submitter chose by its key (see `fairness`)."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds after which an attempt is ended by force. Overrides the handler's and the pool's."""
    soft_timeout: float | None = Field(default=None, gt=0)
    """Seconds after which SoftTimeout is raised in the handler. Overrides the handler's and the pool's."""
    key: str = Field(default="", max_length=MOST_KEY)
    """Concurrency key: at most so many tasks of one key run at once."""
    rate_key: str = Field(default="", max_length=MOST_KEY)
    """Tasks of one rate key start at a rate of their own."""
    unique: str = ""
    """The unique key that this task was submitted under, for people: the lock itself is the submitter's."""
    owner: str = Field(default="", max_length=MOST_KEY)
    """Of a lease: the client that waits for it, for people."""
    passes: dict[str, float] = Field(default_factory=dict)
    """Limits that gave it a start while it waits aside, each with its time (epoch seconds of the server)."""

    def encode(self) -> bytes:
        """Compact JSON in ASCII alone, because it travels in a header."""
        return self.model_dump_json(exclude_none=True, by_alias=True, ensure_ascii=True).encode()

    @property
    def rank(self) -> tuple[int, int]:
        """Which message of the task this is: of two, the greater is the later."""
        return self.attempt, self.snoozes

    @property
    def tries(self) -> int:
        """Attempts since it was submitted or redriven, this one included: what its retry policy counts."""
        return self.attempt - self.spent

    def next_attempt(self) -> "Envelope":
        return self.model_copy(update={"attempt": self.attempt + 1, "passes": {}})

    def next_snooze(self) -> "Envelope":
        """The same attempt once more: a snooze refunds it."""
        return self.model_copy(update={"snoozes": self.snoozes + 1, "passes": {}})

    def redriven(self, after: int) -> "Envelope":
        """What follows failed attempt `after` once somebody has put it back: a full set of attempts, no time limit.

        A deadline was set for the first set and is over, most likely; a redrive is a person's word that it is wanted.
        """
        update = {"attempt": after + 1, "redrives": self.redrives + 1, "spent": after, "deadline": None}
        return self.model_copy(update=update)


def parse_envelope(header: str | None) -> Envelope:
    """The envelope in the header's text; MalformedTask when it is absent or not one."""
    if not header:
        raise MalformedTask("the message has no Mp-Envelope header: it was not submitted by Millpond")
    try:
        return Envelope.model_validate_json(header)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the header"
        raise MalformedTask(f"Mp-Envelope: {where}: {first['msg']}") from None


class Payload(Wire):
    """The arguments of a handler."""

    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)


def parse_payload(body: bytes) -> Payload:
    """The arguments in a JSON body; MalformedTask when they are not `{"args": […], "kwargs": {…}}`."""
    try:
        return Payload.model_validate_json(body or b"{}")
    except pydantic.ValidationError as error:
        raise MalformedTask(f"the payload is not {{args, kwargs}} in JSON: {error.errors()[0]['msg']}") from None
