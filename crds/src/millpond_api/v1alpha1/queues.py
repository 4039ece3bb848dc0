"""`spec.queue` of a WorkerPool: how much waits, in which classes, and what fairness there is between keys."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from millpond_api.v1alpha1.common import (
    CEL,
    Model,
    rule,
)


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
