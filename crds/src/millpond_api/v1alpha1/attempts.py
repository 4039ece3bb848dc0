"""What a WorkerPool says of attempts at its tasks: when one is repeated or ended, where it runs, what becomes of it."""

from typing import Any, Literal

from pydantic import Field

from millpond_api.retry import RetryPolicy
from millpond_api.supervision.pod import EXIT_CODE, INTENSITY, PERIOD, REASON
from millpond_api.v1alpha1.common import (
    CEL,
    Duration,
    Memory,
    Model,
    at_least,
    rule,
    seconds,
)


class Backoff(Model):
    """The delay between attempts."""

    kind: Literal["Fixed", "Linear", "Exponential", "Quartic"] = Field(
        default="Exponential",
        description="How it grows with n failed attempts: Fixed (initial), Linear (initial x n), Exponential "
        "(initial x factor^(n-1)) or Quartic (initial x n^4; set maximum to hours then).",
    )
    initial: Duration = Field(default="1s", description="Delay after the first failed attempt.")
    factor: float = Field(
        default=2.0, ge=1, le=100, description="Exponential multiplies the delay by this after each attempt."
    )
    maximum: Duration = Field(default="5m", description="The longest delay.")
    jitter: float = Field(
        default=0.2, ge=0, le=1, description="Share of the delay that is random, so that retries do not come together."
    )


_ERROR_NAMES: Any = {"items": {"type": "string", "minLength": 1, "maxLength": 256}}


class RetryRule(Model):
    """Whether a failed attempt is followed by another, and when."""

    max_attempts: int = Field(default=4, ge=1, le=1000, description="Attempts in all. 1 never retries.")
    backoff: Backoff = Field(default_factory=Backoff, description="The delay between attempts.")
    retry_on: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="Only these exceptions are tried again, by class name (ConnectionError, or with its module: "
        "requests.exceptions.Timeout); subclasses count. Empty: all but NonRetryable.",
        json_schema_extra=_ERROR_NAMES,
    )
    give_up_on: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="These exceptions end the task at once, whatever retryOn says.",
        json_schema_extra=_ERROR_NAMES,
    )

    def to_policy(self) -> RetryPolicy:
        """The same as workers read it."""
        backoff = self.backoff
        kind: Any = backoff.kind.lower()
        return RetryPolicy(
            max_attempts=self.max_attempts,
            kind=kind,
            initial=seconds(backoff.initial),
            factor=backoff.factor,
            maximum=seconds(backoff.maximum),
            jitter=backoff.jitter,
            retry_on=tuple(self.retry_on),
            give_up_on=tuple(self.give_up_on),
        )


class Retry(RetryRule):
    """What follows a failed attempt."""

    max_lost_workers: int = Field(
        default=3,
        ge=1,
        le=31,
        description="A task whose worker was lost this many times in one attempt is quarantined as Failed (poison): "
        "it may be what kills them.",
    )


class Timeouts(Model):
    """Times after which something is given up."""

    lease: Duration = Field(
        default="15s",
        description="A worker renews its hold on a task three times in this time; when it stops (crash, lost node), "
        "the task is given to another worker after it.",
        json_schema_extra={CEL: [at_least("2s")]},
    )
    soft: Duration | None = Field(
        default=None,
        description="An attempt that runs for longer gets SoftTimeout raised in its handler, which may clean up. A "
        "handler that goes on without a sign of progress counts as hung. Unset: never. A handler's and a task's own "
        "soft timeout come first.",
    )
    hard: Duration | None = Field(
        default=None,
        description="An attempt that runs for longer is ended by force (HardTimeout, a failure that may be tried "
        "again) and its slot is replaced. Unset: never. A handler's and a task's own timeout come first.",
    )


class Leases(Model):
    """How long a client may hold a worker's slot that it has checked out."""

    ttl: Duration = Field(
        default="10s",
        description="A lease whose owner says nothing for so long is ended, and its slot serves the next. The client "
        "renews three times in this time.",
        json_schema_extra={CEL: [at_least("1s")]},
    )
    max_duration: Duration | None = Field(
        default=None,
        description="A lease is ended after it, whatever its owner does. Unset: it lasts as long as it is renewed.",
        json_schema_extra={CEL: [at_least("1s")]},
    )


class Isolation(Model):
    """Where handlers run: in the worker's loop or threads, or in processes that can be killed."""

    mode: Literal["Auto", "Inline", "Thread", "Process"] = Field(
        default="Auto",
        description="The default for handlers that name none. Auto: async handlers share an event loop (Inline), plain "
        "functions have a thread each. Process: a child process, which a hard timeout kills and whose crash fails one "
        "attempt and not the worker.",
    )
    memory_limit: Memory | None = Field(
        default=None,
        description="Memory that a handler's process may take beyond what the app itself takes: MemoryError above it. "
        "Unset: as much as the container has.",
    )
    recycle_after_tasks: int = Field(
        default=0, ge=0, description="A handler's process is replaced after so many tasks; 0: never."
    )
    recycle_above_memory: Memory | None = Field(
        default=None, description="A handler's process that holds more than this after a task is replaced."
    )


class Supervision(Model):
    """How many crashes of a worker's child processes its pod survives. A value that is not set is the worker's own."""

    intensity: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description=f"More crashes of a worker's child processes than this within the period end the pod (exit code "
        f"{EXIT_CODE}): it gives back what it runs, and its Worker is Failed with the reason {REASON}. Processes that "
        f"are killed on purpose do not count, and a task counts once. Unset: {INTENSITY}.",
    )
    period: Duration | None = Field(
        default=None,
        description=f"The time of the intensity, in whole seconds. Unset: {PERIOD}s.",
        json_schema_extra={CEL: [at_least("1s")]},
    )


class Results(Model):
    """Where results are kept, for how long, and in which codecs values may come."""

    ttl: Duration = Field(
        default="24h",
        description="A result in the object store is deleted after it. (A result in its event stays as long as that.)",
        json_schema_extra={CEL: [at_least("1s")]},
    )
    inline_max: Memory = Field(
        default="64Ki",
        description="A larger result goes to the object store; the event and the Task's status say so. At most 512Ki.",
    )
    codecs: list[str] = Field(
        default_factory=list,
        max_length=16,
        description="The only codecs that workers take (json, msgpack, cbor, pickle, or your own). Empty: all that are "
        "installed.",
        json_schema_extra={"items": {"type": "string", "maxLength": 32}},
    )
    pickle: bool = Field(
        default=False,
        description="Take pickled arguments. Whoever may submit to the pool can then run any code in its workers.",
    )


class DeadLetter(Model):
    """What becomes of dead letters. (After how many lost workers a task is one says retry.maxLostWorkers.)"""

    retention: Duration | None = Field(
        default=None,
        description="A dead letter is deleted after it, at most 720h. Unset: after 30 days.",
        json_schema_extra={
            CEL: [at_least("1s"), rule("duration(self) <= duration('720h')", "must be at most 720h (30 days)")]
        },
    )
