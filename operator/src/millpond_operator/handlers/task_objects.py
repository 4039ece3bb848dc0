"""A Task object as the operator's loops read it: parsed, named, and turned into an order for the broker. Pure."""

from dataclasses import dataclass
from datetime import datetime

from millpond.unique import OnConflict, Unique
from millpond_api.durations import parse_duration
from millpond_api.envelope import Envelope
from millpond_api.lifecycle import TaskState
from millpond_api.v1alpha1 import TaskSpec, TaskStatus
from millpond_api.v1alpha1.task import UniqueRule

from millpond_operator.broker.tasks import Order
from millpond_operator.cluster.cache import Body, Key, key_of
from millpond_operator.cluster.writer import Target
from millpond_operator.cluster_key import PoolKey

LIVE = frozenset({"Queued", "Scheduled", "Running", "Backoff"})
"""Phases of a task that was submitted and has not ended: its log is the truth."""


@dataclass(frozen=True)
class TaskObject:
    """A Task object, parsed."""

    key: Key
    uid: str
    generation: int
    pool: PoolKey
    spec: TaskSpec
    status: TaskStatus
    created: str = ""
    """When, as the API server wrote it."""

    @property
    def target(self) -> Target:
        return Target("tasks", self.key.namespace, self.key.name, self.uid)


def make_order(key: Key, uid: str, spec: TaskSpec, now: datetime) -> Order:
    """The object as the broker takes it."""
    envelope = Envelope(
        id=uid,
        handler=spec.handler,
        task_class=spec.task_class,
        enqueued=now,
        deadline=spec.deadline,
        retry=spec.retry.to_policy() if spec.retry else None,
        timeout=parse_duration(spec.timeout) if spec.timeout else None,
        soft_timeout=parse_duration(spec.soft_timeout) if spec.soft_timeout else None,
        fair=spec.fairness_key,
        object=key.name,
        key=spec.concurrency_key or "",
        rate_key=spec.rate_key or "",
        unique=spec.unique_key or "",
    )
    payload = {"args": spec.args, "kwargs": spec.kwargs}
    return Order(PoolKey(key.namespace, spec.pool), envelope, payload, spec.not_before)


_ON_CONFLICT: dict[str, OnConflict] = {"Ignore": "ignore", "Replace": "replace", "Debounce": "replace"}
"""A debounce is a replacement of what waits for its time, and a Task says that time itself (notBefore)."""


def make_unique(spec: TaskSpec) -> Unique:
    """How the object's unique key counts."""
    rule = spec.unique or UniqueRule()
    return Unique(
        key=spec.unique_key,
        period=parse_duration(rule.period) if rule.period else None,
        states=frozenset(TaskState(state) for state in rule.states) or None,
        on_conflict=_ON_CONFLICT[rule.on_conflict],
    )


def pool_key(body: Body) -> PoolKey:
    return PoolKey(body["metadata"]["namespace"], body["spec"]["pool"])


def phase_of(body: Body) -> str:
    return str((body.get("status") or {}).get("phase") or "Pending")


def parse(body: Body) -> TaskObject:
    spec = TaskSpec.model_validate(body["spec"])
    meta = body["metadata"]
    return TaskObject(
        key_of(body),
        meta["uid"],
        meta.get("generation", 0),
        PoolKey(meta["namespace"], spec.pool),
        spec,
        TaskStatus.model_validate(body.get("status") or {}),
        str(meta.get("creationTimestamp", "")),
    )
