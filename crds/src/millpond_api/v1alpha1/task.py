"""Task: one unit of work for a pool. Its spec is its intention; after creation only `cancel` and `suspend` change."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from millpond_api.v1alpha1.attempts import RetryRule
from millpond_api.v1alpha1.common import CEL, PRESERVE, Condition, Duration, Model, Timestamp, at_least, rule
from millpond_api.v1alpha1.limits import KEY_CEL

MAX_ARGUMENT_TEXT = 262144

_FIXED = (
    *("pool", "handler", "class", "fairnessKey", "notBefore", "deadline", "ttlAfterFinished"),
    *("timeout", "softTimeout", "checkArguments"),
)
_KEYS = ("concurrencyKey", "rateKey", "uniqueKey")

_ANY_JSON: Any = {PRESERVE: True, "maxLength": MAX_ARGUMENT_TEXT}


def _fixed(field: str) -> Any:
    """A field that may not be set, changed or removed after creation."""
    same = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    return rule(same, f"{field} cannot be changed: only cancel and suspend can. Create a new Task instead")


# Not args and kwargs: a schema's rule sees no field of any JSON (the API server refuses such a rule as undefined). The
# chart's admission policy keeps those two; without it a change of them has no effect, since what was sent was sent.
_TASK_RULES: Any = [
    *(_fixed(field) for field in (*_FIXED, *_KEYS, "unique", "retry")),
    rule("!has(self.unique) || has(self.uniqueKey)", "unique says how uniqueKey counts: say uniqueKey too"),
    rule(
        "!has(self.unique) || !has(self.unique.onConflict) || self.unique.onConflict != 'Debounce' || "
        "has(self.notBefore)",
        "unique.onConflict Debounce needs notBefore: when the task is to run unless another takes its place",
    ),
    rule(
        "!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",
        "cancel cannot be taken back: create a new Task instead",
    ),
]


class TaskRetry(RetryRule):
    """Overrides the pool's retry for this task."""


class UniqueRule(Model):
    """How uniqueKey counts."""

    period: Duration | None = Field(
        default=None,
        description="The key is taken for so long, also when the task has succeeded before. Unset: until it has ended.",
        json_schema_extra={CEL: [at_least("1s")]},
    )
    states: list[
        Literal["Scheduled", "Queued", "Running", "Backoff", "Succeeded", "Failed", "Cancelled", "Expired"]
    ] = Field(
        default_factory=list,
        max_length=8,
        description="The phases of the other task in which it counts. Empty: Scheduled, Queued, Running and "
        "Backoff; with a period Succeeded too.",
    )
    on_conflict: Literal["Ignore", "Replace", "Debounce"] = Field(
        default="Ignore",
        description="Ignore: this task yields to the other one, as Cancelled with reason Yielded. Replace: the other "
        "is cancelled if it has not begun. Debounce: the same with notBefore, so that the last of a bunch runs.",
    )


class TaskSpec(Model):
    """What to run, where and when."""

    model_config = ConfigDict(json_schema_extra={CEL: _TASK_RULES})

    pool: str = Field(min_length=1, max_length=63, description="Name of the WorkerPool, in the same namespace.")
    handler: str = Field(
        min_length=1,
        max_length=128,
        description="Name under which the handler is registered in the pool's app.",
        json_schema_extra={
            CEL: [rule("self.matches('^[A-Za-z0-9._:/-]+$')", "may hold only letters, digits and . _ : / -")]
        },
    )
    args: list[Any] = Field(
        default_factory=list,
        max_length=256,
        description="Positional arguments, any JSON. At most 768 KiB in all: put larger data into a store and pass "
        "its key.",
        json_schema_extra={"items": _ANY_JSON},
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments, any JSON.",
        json_schema_extra={"type": "object", "maxProperties": 256, "additionalProperties": _ANY_JSON},
    )
    task_class: str = Field(
        default="default", alias="class", max_length=32, description="Priority class: one of the pool's queue.classes."
    )
    fairness_key: str = Field(
        default="",
        max_length=256,
        description="Such as a tenant's name: in a pool with queue.fairness, tasks of one key do not delay those of "
        "another key of the same class.",
    )
    not_before: Timestamp | None = Field(default=None, description="Do not start before this time.")
    deadline: Timestamp | None = Field(
        default=None, description="Expired when it has not succeeded by this time; a running attempt is cancelled."
    )
    retry: TaskRetry | None = Field(default=None, description="Overrides the pool's retry for this task.")
    timeout: Duration | None = Field(
        default=None,
        description="An attempt that runs for longer is ended by force (HardTimeout). Overrides the handler's and the "
        "pool's.",
    )
    soft_timeout: Duration | None = Field(
        default=None,
        description="An attempt that runs for longer gets SoftTimeout raised in its handler. Overrides the handler's "
        "and the pool's.",
    )
    concurrency_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Of the tasks with this key as many run at once as the pool's concurrencyLimits or the handler "
        "allow.",
        json_schema_extra={CEL: KEY_CEL},
    )
    rate_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Tasks of one rate key start no faster than the pool's rateLimit.perKey.",
        json_schema_extra={CEL: KEY_CEL},
    )
    unique_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Of the tasks of the pool with this key one stands at a time (the SDK's unique, by the same keys).",
        json_schema_extra={CEL: KEY_CEL},
    )
    unique: UniqueRule | None = Field(default=None, description="How uniqueKey counts.")
    check_arguments: bool = Field(
        default=True,
        description="Fail it at once (ArgumentsRefused) when no version of the handler that the pool's workers have "
        "announced takes these arguments. false: submit it whatever they say.",
    )
    suspend: bool = Field(
        default=False, description="Do not submit it while this is true. No effect once it is queued."
    )
    cancel: bool = Field(default=False, description="Set to true to cancel it, waiting or running.")
    ttl_after_finished: Duration | None = Field(
        default=None, description="The object is deleted this long after it has ended. Kept when unset."
    )


class TaskError(Model):
    """Why the last attempt failed."""

    type: str = Field(default="", description="The exception's type.")
    message: str = Field(default="", description="The exception's text.")
    traceback: str = Field(default="", description="The end of its traceback.")


class TaskTransition(Model):
    """One step of the task's state machine."""

    phase: str = Field(description="The state it went to.")
    at: Timestamp = Field(description="When.")
    attempt: int = Field(default=1, description="The attempt it belongs to.")
    worker: str = Field(default="", description="The worker that took the step.")
    reason: str = Field(default="", description="Why.")


class TaskStoredResult(Model):
    """A result that is not in the status: where it is, and how large."""

    size: int = Field(description="Bytes that the codec wrote.")
    where: str = Field(description="Event or ObjectStore. handle.result() of the SDK reads both.")
    codec: str = Field(default="json", description="The codec that it is written in.")
    expires_at: Timestamp | None = Field(default=None, description="When it is deleted.")


class TaskStatus(Model):
    """What became of it. Written by the operator from the task's log."""

    phase: str = Field(
        default="Pending",
        description="Pending, Scheduled, Queued, Running, Backoff, Succeeded, Failed, Cancelled or Expired.",
    )
    task_id: str = Field(default="", description="Its id in the queue and in the SDK.")
    attempts: int = Field(default=0, description="Attempts started (refunded ones are not counted).")
    worker: str = Field(default="", description="The worker that runs it or ran it last.")
    queued_at: Timestamp | None = Field(default=None, description="When it was put into the queue.")
    started_at: Timestamp | None = Field(default=None, description="When its last attempt started.")
    finished_at: Timestamp | None = Field(default=None, description="When it ended.")
    next_attempt_at: Timestamp | None = Field(default=None, description="When the next attempt is due (Backoff).")
    duration: str = Field(default="", description="How long its last attempt took.")
    reason: str = Field(default="", description="One word on the phase.")
    message: str = Field(default="", description="One sentence on the phase.")
    result: Any = Field(
        default=None,
        description="What the handler returned, up to 64 KiB of JSON; larger results are read with the SDK.",
        json_schema_extra={PRESERVE: True},
    )
    stored_result: TaskStoredResult | None = Field(
        default=None, description="Where the result is, when it is too large for the status or no JSON."
    )
    error: TaskError | None = Field(default=None, description="Why the last attempt failed.")
    transitions: list[TaskTransition] = Field(default_factory=list, description="The steps it took, oldest first.")
    observed_sequence: int = Field(default=0, description="The log's sequence that this status was made from.")
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Complete, Failed, Accepted, HandlerMissing; Waiting while a limit keeps it.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class Task(Model):
    """One unit of work."""

    spec: TaskSpec
    status: TaskStatus | None = None
