"""Worker: one pod of a pool, or one worker that joined it from outside the cluster, as a state machine.

Written by the operator alone. The object outlives its pod, so that how it ended stays readable.
"""

from pydantic import Field

from millpond_api.v1alpha1.common import Condition, Model, Timestamp


class WorkerSpec(Model):
    """Which worker this is."""

    pool: str = Field(description="Name of its WorkerPool.")
    pod: str = Field(default="", description="Name of its pod; empty for a worker outside the cluster.")
    remote: bool = Field(default=False, description="Whether it joined from outside the cluster (no pod is its).")


class RunningTask(Model):
    """A task that the worker runs now."""

    task: str = Field(description="The Task object's name, or the task id where there is none.")
    handler: str = Field(default="", description="The handler.")
    attempt: int = Field(default=1, description="Which attempt.")
    since: Timestamp | None = Field(default=None, description="Since when.")
    progress: str = Field(default="", description="What the handler last reported.")
    hung: Timestamp | None = Field(
        default=None,
        description="Seen then to be past its soft timeout without a sign of progress; unset while it moves.",
    )
    where: str = Field(default="", description="Where it hangs: file, line and function.")
    owner: str = Field(default="", description="Of a lease: the client that holds it.")


class WorkerTransition(Model):
    """One step of the worker's state machine."""

    state: str = Field(description="The state it went to.")
    at: Timestamp = Field(description="When.")
    reason: str = Field(default="", description="Why.")
    count: int = Field(default=1, description="How many changes between Idle, Busy and Leased this entry stands for.")


class WorkerStatus(Model):
    """What the worker last said, and what the kubelet says of its pod."""

    state: str = Field(
        default="Starting", description="Starting, Idle, Busy, Leased, Draining, Stopped, Lost or Failed."
    )
    since: Timestamp | None = Field(default=None, description="In this state since.")
    slots: int = Field(default=0, description="Tasks it can run at once.")
    in_flight: int = Field(default=0, description="Tasks it runs now.")
    running: list[RunningTask] = Field(default_factory=list, max_length=50, description="The tasks it runs now.")
    succeeded: int = Field(default=0, description="Attempts that succeeded since its process started.")
    failed: int = Field(default=0, description="Attempts that failed since its process started.")
    starved: Timestamp | None = Field(
        default=None, description="Since when a call into C holds its interpreter, so that none of its Python runs."
    )
    restarts: int = Field(default=0, description="Restarts of its container.")
    node: str = Field(default="", description="The node it runs on; of a remote worker its host.")
    reason: str = Field(default="", description="Why it is in this state (OOMKilled, Error, Evicted, ScaleDown, ...).")
    message: str = Field(default="", description="One sentence on the state.")
    exit_code: int | None = Field(default=None, description="Exit code of its container when it ended.")
    transitions: list[WorkerTransition] = Field(
        default_factory=list, max_length=30, description="The last steps it took, oldest first."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Ready; Hung, once a task hung or the interpreter was held.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class Worker(Model):
    """One worker of a pool."""

    spec: WorkerSpec
    status: WorkerStatus | None = None
