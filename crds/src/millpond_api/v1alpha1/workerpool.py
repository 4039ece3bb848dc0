"""WorkerPool: a pool of workers, its queue, and how the one follows the other."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from millpond_api.retry import RetryPolicy
from millpond_api.v1alpha1.common import (
    CEL,
    PRESERVE,
    Condition,
    Duration,
    Memory,
    Model,
    Timestamp,
    at_least,
    rule,
    seconds,
)
from millpond_api.v1alpha1.limits import ConcurrencyLimits, RateLimit
from millpond_api.v1alpha1.rollout import Rollout, RolloutStatus, VersionStatus
from millpond_api.v1alpha1.scaling import Scaling


class Fairness(Model):
    """Fairness between the keys of a class: the tasks of one key do not delay those of another."""

    lanes: int = Field(
        default=128,
        ge=2,
        le=900,
        description="Queues in each class that are served in turn. A key has two of them, so two keys disturb each "
        "other only if both lanes of the one hold a crowd. A lane in use costs NATS 48 KB.",
    )


_QUEUE_RULES: Any = [
    rule(
        "!has(self.fairness) || !has(self.classes) || self.fairness.lanes * self.classes.size() <= 900",
        "fairness.lanes times the number of classes must be at most 900 (NATS allows 1,000 consumers of a queue): "
        "lower lanes",
    ),
    rule(
        "!has(self.weights) || self.weights.all(name, name in self.classes)",
        "weights names a class that is not in classes: add it there, or correct the name",
    ),
]


class Queue(Model):
    """The pool's queue: a JetStream work-queue stream."""

    model_config = ConfigDict(json_schema_extra={CEL: _QUEUE_RULES})

    max_depth: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Tasks that may wait or run at once. A full queue refuses: the SDK raises QueueFull, a Task object "
        "stays Pending with the reason and is admitted later.",
    )
    classes: list[str] = Field(
        default_factory=lambda: ["default"],
        min_length=1,
        max_length=8,
        description="Priority classes, highest first. How they share the workers is said by priority and weights.",
        json_schema_extra={
            CEL: [
                rule("self.all(c, c.matches('^[a-z0-9-]{1,32}$'))", "class names are lower-case letters, digits and -")
            ],
            "items": {"type": "string", "maxLength": 32},
        },
    )
    priority: Literal["Weighted", "Strict"] = Field(
        default="Weighted",
        description="Weighted: while all classes have tasks waiting, each has its share of the starts, so none "
        "starves; a class that had nothing waiting gets the next free slot. Strict: a worker takes from a class only "
        "when those before it are empty.",
    )
    weights: dict[str, int] = Field(
        default_factory=dict,
        description="Shares of the classes, such as {high: 5, default: 3, bulk: 1}. Without any, a class weighs twice "
        "the next one; where some are given, the others weigh 1.",
        json_schema_extra={
            "maxProperties": 8,
            "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 1000},
        },
    )
    fairness: Fairness | None = Field(
        default=None,
        description="When set, tasks with a fairness key (fairnessKey, or fair= in the SDK) take turns by key within "
        "their class: one tenant's million tasks do not delay another's ten.",
    )
    storage: Literal["File", "Memory"] = Field(
        default="File",
        description="Where the queue is kept. Memory is lost when NATS restarts.",
        json_schema_extra={CEL: [rule("self == oldSelf", "cannot be changed: NATS fixes it when the queue is made")]},
    )
    replicas: int = Field(default=1, ge=1, le=5, description="Copies in the NATS cluster (needs that many servers).")
    reclaim_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="What happens to the queue when the pool is deleted. Retain keeps waiting tasks for a pool of the "
        "same name; Delete drops them.",
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


class Shutdown(Model):
    """How a worker stops."""

    grace_period: Duration = Field(
        default="30s",
        description="After SIGTERM a worker finishes what it runs within this time; what is left is given back to the "
        "queue with the attempt refunded.",
    )


class ImagePullSecret(Model):
    """A reference to a Secret in the pool's namespace."""

    name: str = Field(description="Name of the Secret.")


_POOL_RULES: Any = [
    rule(
        "self.scaling.minWorkers <= self.scaling.maxWorkers",
        "scaling.minWorkers must not be greater than scaling.maxWorkers: lower minWorkers or raise maxWorkers",
    ),
    rule(
        "has(self.image) || has(self.template)", "image is missing: name the worker image (built from millpond-worker)"
    ),
]


class WorkerPoolSpec(Model):
    """A pool of workers that run one app's handlers."""

    model_config = ConfigDict(json_schema_extra={CEL: _POOL_RULES})

    image: str | None = Field(
        default=None, min_length=1, max_length=512, description="The worker image, with your app."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When the kubelet pulls the image; Kubernetes' default when unset."
    )
    image_pull_secrets: list[ImagePullSecret] = Field(
        default_factory=list, max_length=16, description="Secrets for a private registry."
    )
    app: str = Field(
        description="Where the App object is: module:attribute, as in census:app.",
        max_length=256,
        json_schema_extra={
            CEL: [
                rule(
                    "self.matches('^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$')",
                    "must be module:attribute, such as census:app",
                )
            ]
        },
    )
    concurrency: int = Field(default=1, ge=1, le=1000, description="Slots in each worker: tasks it runs at once.")
    env: list[dict[str, Any]] = Field(
        default_factory=list,
        max_length=256,
        description="Environment variables of the worker, as in a container.",
        json_schema_extra={"items": {"type": "object", PRESERVE: True}},
    )
    resources: dict[str, Any] = Field(
        default_factory=dict,
        description="Requests and limits of the worker's container.",
        json_schema_extra={"type": "object", PRESERVE: True},
    )
    template: dict[str, Any] | None = Field(
        default=None,
        description="A pod template for what the fields above do not cover (nodeSelector, tolerations, volumes, side "
        "containers). The container named worker is Millpond's: what is written here is merged into it.",
        json_schema_extra={"type": "object", PRESERVE: True},
    )
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=10000,
        description="Set by kubectl scale: holds exactly this many workers, whatever the queue says, until removed"
        ' (kubectl patch workerpool NAME --type=json -p \'[{"op":"remove","path":"/spec/replicas"}]\').',
    )
    scaling: Scaling = Field(default_factory=Scaling, description="How many workers there are, and when.")
    queue: Queue = Field(default_factory=Queue, description="The pool's queue.")
    retry: Retry = Field(default_factory=Retry, description="What follows a failed attempt.")
    timeouts: Timeouts = Field(default_factory=Timeouts, description="Times after which something is given up.")
    isolation: Isolation = Field(default_factory=Isolation, description="Where handlers run.")
    results: Results = Field(default_factory=Results, description="Where results are kept, and in which codecs.")
    rate_limit: RateLimit | None = Field(default=None, description="How many tasks may start in a time.")
    concurrency_limits: ConcurrencyLimits | None = Field(
        default=None, description="How many tasks of one concurrency key run at once."
    )
    dead_letter: DeadLetter = Field(default_factory=DeadLetter, description="What becomes of dead letters.")
    shutdown: Shutdown = Field(default_factory=Shutdown, description="How a worker stops.")
    rollout: Rollout = Field(default_factory=Rollout, description="How a changed template reaches the workers.")
    worker_history_limit: int = Field(
        default=10, ge=0, le=1000, description="Stopped and Failed Worker objects that stay readable."
    )


class WorkerCounts(Model):
    """Workers by state."""

    starting: int = Field(default=0, description="Pods that have not reported ready yet.")
    idle: int = Field(default=0, description="Workers without a task.")
    busy: int = Field(default=0, description="Workers that run at least one task.")
    draining: int = Field(default=0, description="Workers that finish what they run and take nothing new.")
    lost: int = Field(default=0, description="Workers whose heartbeats are missed.")


class TaskCounts(Model):
    """Task objects of the pool by phase (tasks of the SDK have no object and are not counted here)."""

    pending: int = Field(default=0, description="Waiting to be admitted.")
    scheduled: int = Field(default=0, description="Waiting for their time.")
    queued: int = Field(default=0, description="In the queue.")
    running: int = Field(default=0, description="Running.")
    backoff: int = Field(default=0, description="Waiting for their next attempt.")
    succeeded: int = Field(default=0, description="Ended well.")
    failed: int = Field(default=0, description="Ended with an error.")
    cancelled: int = Field(default=0, description="Cancelled.")
    expired: int = Field(default=0, description="Passed their deadline.")


class Decision(Model):
    """One entry of the ledger: a scaling decision that changed the number of workers, or that a rule kept from it."""

    at: Timestamp = Field(description="When it was made.")
    source: int = Field(alias="from", description="Workers before.")
    target: int = Field(alias="to", description="Workers after.")
    reason: str = Field(description="One word.")
    message: str = Field(description="The sentence that also stands in the log, the Event and the condition.")
    clamp: str = Field(default="", description="The rule that kept the number from what the queue needs, if any.")
    acted: bool = Field(
        default=True, description="False where nothing was changed: a rule refused it, or the pool is in shadow mode."
    )
    inputs: dict[str, Any] = Field(
        default_factory=dict,
        description="Lag, tasks in flight, workers and bounds that it was made from.",
        json_schema_extra={"type": "object", PRESERVE: True},
    )


class WorkerPoolStatus(Model):
    """What the operator observed and decided."""

    observed_generation: int | None = Field(default=None, description="The spec's generation that this speaks of.")
    replicas: int = Field(default=0, description="Worker pods that exist.")
    ready_replicas: int = Field(default=0, description="Worker pods that are ready.")
    desired: int = Field(default=0, description="Workers that the last decision asked for.")
    lag: int = Field(default=0, description="Tasks waiting and in flight.")
    waiting: int = Field(default=0, description="Tasks waiting in the queue.")
    in_flight: int = Field(default=0, description="Tasks that workers run now.")
    selector: str = Field(default="", description="Label selector of the worker pods (for the scale subresource).")
    workers: WorkerCounts = Field(default_factory=WorkerCounts, description="Workers by state.")
    tasks: TaskCounts = Field(default_factory=TaskCounts, description="Task objects by phase.")
    mode: str = Field(default="", description="Auto, Manual (kubectl scale), Paused or Shadow.")
    forecast: str | None = Field(default=None, description="How the forecast stands: on, off or learning, and why.")
    decisions: list[Decision] = Field(
        default_factory=list, max_length=20, description="The last scaling decisions, newest first."
    )
    rollout: RolloutStatus = Field(default_factory=RolloutStatus, description="The rollout under way, or the last one.")
    versions: list[VersionStatus] = Field(
        default_factory=list, max_length=20, description="The versions of the template that have workers, newest first."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Ready, Scaling, Degraded, Paused, HandlerMissing, Progressing, Draining; RateLimited with a "
        "rateLimit.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class WorkerPool(Model):
    """A pool of workers and its queue."""

    spec: WorkerPoolSpec
    status: WorkerPoolStatus | None = None
