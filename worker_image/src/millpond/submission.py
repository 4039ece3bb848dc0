"""A submission as data: arguments checked and written, before anything is sent. Pure but for the given `now`.

Owns the translation of what a caller says (arguments, delay, deadline) into an envelope and a body. It must not do
I/O: the client sends what is made here. What can be refused is refused here, in the caller's frame and with a sentence,
because a task that cannot be read would only be seen again as a dead letter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypedDict

from millpond_api import subjects
from millpond_api.envelope import MOST_KEY, Envelope
from millpond_api.events import MAX_PAYLOAD_BYTES
from millpond_api.retry import RetryPolicy

from millpond.errors import ArgumentsTooLarge
from millpond.packing import Packed
from millpond.spans import Span, read_limit, read_wait

if TYPE_CHECKING:
    from millpond.unique import Unique


class Options(TypedDict, total=False):
    """How a task is to run, apart from what it runs: the keywords of `submit`, each of them optional.

    The one list of them: a new option is a line here and its use in `make_submission`. `Options(priority="high")` makes
    a set that several calls share: `submit(…, **options)`. Seconds are numbers or timedeltas.
    """

    delay: Span | None
    """Keep it for so long (seconds from the call)."""
    not_before: datetime | None
    """Keep it until then (a moment with a time zone); instead of `delay`."""
    priority: str | None
    """The name of one of the pool's classes."""
    deadline: datetime | Span | None
    """A task that has not ended by then ends as Expired: a moment with a time zone, or seconds from the call."""
    retry: RetryPolicy | None
    """Overrides the policies of the handler and of the pool."""
    codec: str | None
    """How arguments and result are written: json, msgpack, cbor, pickle, or one of your own. The client's, if unset."""
    fair: str | None
    """Fairness key, such as a tenant's name: within its class, tasks of one key do not delay those of another."""
    timeout: Span | None
    """Seconds after which an attempt is ended by force (HardTimeout)."""
    soft_timeout: Span | None
    """Seconds after which SoftTimeout is raised in the handler."""
    key: str | None
    """Concurrency key: of the tasks with this key as many run at once as the pool or the handler allows."""
    rate_key: str | None
    """Tasks of one rate key start no faster than the pool's rateLimit.perKey."""
    trace: str | None
    """W3C traceparent that the task belongs to. Unset: that of the caller's span, or of the task that submits it."""
    check: bool | None
    """False: submit it whatever the pool's catalogue says of the handler's arguments."""
    unique: "Unique | None"
    """Of the submissions with one unique key, one stands at a time (not for `submit_many`)."""
    wait: Span | None
    """Seconds to wait for room in a full queue before QueueFull is raised."""


def check_options(options: Options) -> Options:
    """`options` itself; TypeError for a name that is none, because a misspelt option would silently do nothing."""
    unknown = sorted(set(options) - Options.__annotations__.keys())
    if unknown:
        raise TypeError(f"submit has no option {unknown[0]!r}: it knows {', '.join(sorted(Options.__annotations__))}")
    retry = options.get("retry")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a policy, such as RetryPolicy(max_attempts=3), not {retry!r}")
    return options


BATCH_TASKS = 1000
"""Tasks of one atomic batch: nats-server's own bound (ADR-50)."""
BATCH_BYTES = 16 * 1024 * 1024
"""Arguments of one atomic batch: the server keeps a batch aside until its last message is there."""


@dataclass(frozen=True)
class Submission:
    """A task ready to be sent; `at` is its time when it is delayed."""

    envelope: Envelope
    body: bytes
    at: datetime | None = None
    headers: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", {subjects.HEADER_ENVELOPE: self.envelope.encode().decode("ascii")})


def make_submission(task_id: str, handler: str, packed: Packed, options: Options, now: datetime) -> Submission:
    """The submission of one task; ValueError for a name, time or class that cannot be."""
    if len(packed.body) > MAX_PAYLOAD_BYTES:
        raise ArgumentsTooLarge(
            f"the arguments are {len(packed.body):,} bytes and a task carries at most {MAX_PAYLOAD_BYTES:,}: "
            "store the data where the worker can read it and pass its name"
        )
    at = start_time(options, now)
    deadline = deadline_time(options.get("deadline"), now)
    if deadline and deadline <= (at or now):
        raise ValueError(f"deadline {deadline.isoformat()} is not after the task's start: it could never run")
    envelope = Envelope(
        id=subjects.check_token(task_id, "task id"),
        handler=subjects.check_handler(handler),
        task_class=class_of(options),
        enqueued=now,
        deadline=deadline,
        retry=options.get("retry"),
        codec=packed.codec,
        zip=packed.zip,
        accepts=packed.accepts,
        fair=check_key(options.get("fair"), "fair"),
        timeout=read_limit(options.get("timeout"), "timeout"),
        soft_timeout=read_limit(options.get("soft_timeout"), "soft_timeout"),
        key=check_key(options.get("key"), "key"),
        rate_key=check_key(options.get("rate_key"), "rate_key"),
        trace=options.get("trace") or "",
    )
    return Submission(envelope, packed.body, at)


def make_batches(submissions: Sequence[Submission]) -> list[list[Submission]]:
    """The submissions in order, cut into batches that are stored as a whole: BATCH_TASKS and BATCH_BYTES at most.

    A delayed task goes to another stream than one for now, and a batch is one stream's, so both are never mixed.
    """
    batches: list[list[Submission]] = []
    size = 0
    for one in submissions:
        size += len(one.body)
        last = batches[-1] if batches else []
        if not last or len(last) == BATCH_TASKS or size > BATCH_BYTES or (last[0].at is None) != (one.at is None):
            batches.append([])
            size = len(one.body)
        batches[-1].append(one)
    return batches


def class_of(options: Options) -> str:
    """The class that the task goes to."""
    return subjects.check_token(options.get("priority") or "default", "priority")


def start_time(options: Options, now: datetime) -> datetime | None:
    """When a delayed task is due; None when it may run at once."""
    delay, moment = options.get("delay"), options.get("not_before")
    if moment is not None:
        if delay is not None:
            raise ValueError("give delay or not_before, not both: they say the same in two ways")
        return zoned(moment, "not_before") if zoned(moment, "not_before") > now else None
    if delay is None:
        return None
    wait = timedelta(seconds=read_wait(delay, "delay"))
    return now + wait if wait else None


def deadline_time(deadline: datetime | Span | None, now: datetime) -> datetime | None:
    """The moment after which the task must not start or go on."""
    if deadline is None or isinstance(deadline, datetime):
        return None if deadline is None else zoned(deadline, "deadline")
    return now + timedelta(seconds=read_limit(deadline, "deadline") or 0.0)


def zoned(moment: datetime, what: str) -> datetime:
    """`moment` in UTC; ValueError when it names no time zone, TypeError when it is none."""
    if not isinstance(moment, datetime):
        raise TypeError(f"{what} must be a datetime with a time zone, not {moment!r}")
    if moment.tzinfo is None:
        raise ValueError(f"{what} {moment.isoformat()} has no time zone: use datetime.now(UTC) + …, or a timedelta")
    return moment.astimezone(UTC)


def check_key(key: str | None, what: str) -> str:
    """The key as it travels, empty for none; it may be any ASCII text, because headers carry nothing else."""
    if key is None:
        return ""
    if not isinstance(key, str) or not key or len(key) > MOST_KEY or not key.isascii() or not key.isprintable():
        raise ValueError(f"{what} {key!r} must be a printable ASCII text of 1 to {MOST_KEY} characters")
    return key
