"""WorkerPool: a pool of workers, its queue, and how the one follows the other."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from millpond_api.v1alpha1.attempts import DeadLetter, Isolation, Leases, Results, Retry, Supervision, Timeouts
from millpond_api.v1alpha1.common import (
    CEL,
    PRESERVE,
    Condition,
    Duration,
    Model,
    Timestamp,
    rule,
)
from millpond_api.v1alpha1.limits import ConcurrencyLimits, RateLimit
from millpond_api.v1alpha1.queues import Queue
from millpond_api.v1alpha1.rollout import Rollout, RolloutStatus, VersionStatus
from millpond_api.v1alpha1.scaling import Scaling


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
    leases: Leases = Field(default_factory=Leases, description="How long clients may hold slots that they check out.")
    supervision: Supervision = Field(
        default_factory=Supervision, description="How many crashes of its child processes a worker survives."
    )
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
    workers: WorkerCounts = Field(
        default_factory=WorkerCounts, description="Workers by state, those outside the cluster among them."
    )
    remote_workers: int = Field(default=0, description="Workers outside the cluster that are heard of.")
    remote_slots: int = Field(default=0, description="Slots of those that take tasks.")
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
