"""A submission as data: arguments checked and written, before anything is sent. Pure but for the given `now`.

Owns the translation of what a caller says (arguments, delay, deadline) into an envelope and a body. It must not do
I/O: the client sends what is made here. What can be refused is refused here, in the caller's frame and with a sentence,
because a task that cannot be read would only be seen again as a dead letter.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from millpond_api import subjects
from millpond_api.envelope import Envelope
from millpond_api.events import MAX_PAYLOAD_BYTES
from millpond_api.retry import RetryPolicy

from millpond.errors import ArgumentsNotSerializable, ArgumentsTooLarge


@dataclass(frozen=True)
class Options:
    """How a task is to run, apart from what it runs. `delay` and `deadline` count from the moment of submission."""

    delay: float | timedelta | None = None
    priority: str = "default"
    deadline: datetime | timedelta | None = None
    retry: RetryPolicy | None = None


@dataclass(frozen=True)
class Submission:
    """A task ready to be sent; `at` is its time when it is delayed."""

    envelope: Envelope
    body: bytes
    at: datetime | None = None
    headers: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {subjects.HEADER_ENVELOPE: self.envelope.encode().decode("ascii")})


def make_body(args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> bytes:
    """The payload in JSON. Strict: what JSON has no form for is refused instead of arriving as something else."""
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise ArgumentsNotSerializable(f"args must be a list or tuple of arguments, not {type(args).__name__}: [value]")
    try:
        body = json.dumps(
            {"args": list(args), "kwargs": dict(kwargs or {})},
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentsNotSerializable(
            f"the arguments have no form in JSON ({error}): pass plain values (numbers, texts, lists, dicts), "
            "or a name under which the worker finds the data"
        ) from error
    if len(body) > MAX_PAYLOAD_BYTES:
        raise ArgumentsTooLarge(
            f"the arguments are {len(body):,} bytes and a task carries at most {MAX_PAYLOAD_BYTES:,}: "
            "store the data where the worker can read it and pass its name"
        )
    return body


def make_submission(task_id: str, handler: str, body: bytes, options: Options, now: datetime) -> Submission:
    """The submission of one task; ValueError for a name, time or class that cannot be."""
    at = due_time(options.delay, now)
    deadline = deadline_time(options.deadline, now)
    if deadline and deadline <= (at or now):
        raise ValueError(f"deadline {deadline.isoformat()} is not after the task's start: it could never run")
    envelope = Envelope(
        id=subjects.check_token(task_id, "task id"),
        handler=subjects.check_handler(handler),
        task_class=subjects.check_token(options.priority, "priority"),
        enqueued=now,
        deadline=deadline,
        retry=options.retry,
    )
    return Submission(envelope, body, at)


def due_time(delay: float | timedelta | None, now: datetime) -> datetime | None:
    """When a delayed task is due; None when it may run at once."""
    if delay is None:
        return None
    wait = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
    if wait < timedelta(0):
        raise ValueError(f"delay {wait} lies in the past: leave it out to run the task at once")
    return now + wait if wait else None


def deadline_time(deadline: datetime | timedelta | None, now: datetime) -> datetime | None:
    """The moment after which the task must not start or go on."""
    if deadline is None:
        return None
    moment = now + deadline if isinstance(deadline, timedelta) else deadline
    if moment.tzinfo is None:
        raise ValueError(f"deadline {moment.isoformat()} has no time zone: use datetime.now(UTC) + …, or a timedelta")
    return moment.astimezone(UTC)
