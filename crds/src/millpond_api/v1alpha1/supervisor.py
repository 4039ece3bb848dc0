"""Supervisor: OTP's supervisor over worker pools and other supervisors of the namespace (docs/supervisors.md)."""

import math
from typing import Any, Literal

from pydantic import ConfigDict, Field

from millpond_api.supervision import BRUTAL, INFINITY, AutoShutdown, Child, Flags, Restart, Strategy
from millpond_api.v1alpha1.common import CEL, PRESERVE, Condition, Duration, Model, Timestamp, rule, seconds

LAST_RESTARTS = 20

_STRATEGY: Any = [
    rule(
        "self != 'SimpleOneForOne'",
        "SimpleOneForOne is for children of one kind that have no names: a WorkerPool is that already; "
        "write OneForOne, OneForAll or RestForOne",
    ),
    rule(
        "self in ['OneForOne', 'OneForAll', 'RestForOne', 'SimpleOneForOne']",
        "must be OneForOne, OneForAll or RestForOne",
    ),
]
_SHUTDOWN: Any = [
    rule(
        r"self in ['Infinity', 'BrutalKill'] || self.matches('^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$')",
        "must be Infinity, BrutalKill or a duration such as 30s or 5m",
    )
]
_CHILD_RULES: Any = [
    rule(
        "!has(self.supervisor) || self.shutdown == 'Infinity'",
        "a supervisor stops its children in their own times: leave its shutdown at Infinity",
    ),
    rule("has(self.workerPool) != has(self.supervisor)", "name exactly one of workerPool and supervisor"),
    rule(
        "!self.significant || self.restart != 'Permanent'",
        "a Permanent child never ends by itself, so it can't be significant: write restart Transient or Temporary",
    ),
]
_SPEC_RULES: Any = [
    rule(
        "self.autoShutdown != 'Never' || !self.children.exists(c, c.significant)",
        "a significant child needs an autoShutdown other than Never: write AnySignificant or AllSignificant",
    ),
    rule(
        "self.children.all(c, !has(c.workerPool) || self.children.exists_one(d, has(d.workerPool) && "
        "d.workerPool == c.workerPool))",
        "a workerPool is named twice in children: name each once",
    ),
    rule(
        "self.children.all(c, !has(c.supervisor) || self.children.exists_one(d, has(d.supervisor) && "
        "d.supervisor == c.supervisor))",
        "a supervisor is named twice in children: name each once",
    ),
]


class SupervisorChild(Model):
    """One child."""

    model_config = ConfigDict(json_schema_extra={CEL: _CHILD_RULES})

    worker_pool: str | None = Field(
        default=None, min_length=1, max_length=40, description="Name of a WorkerPool of the namespace."
    )
    supervisor: str | None = Field(
        default=None, min_length=1, max_length=40, description="Name of another Supervisor of the namespace."
    )
    restart: Literal["Permanent", "Transient", "Temporary"] = Field(
        default="Permanent",
        description="Permanent: each end counts and is followed by a restart. Transient: only a bad one, which a "
        "pool's crash always is, and that a supervisor gave up is not. Temporary: never; a pool's crash is not counted "
        "and its siblings stay.",
    )
    shutdown: str = Field(
        default="Infinity",
        max_length=32,
        description="How long workers may finish what they run when the child is stopped or restarted: Infinity, a "
        "duration after which they are killed, or BrutalKill. What they ran is run again elsewhere.",
        json_schema_extra={CEL: _SHUTDOWN},
    )
    significant: bool = Field(
        default=False, description="Whether autoShutdown looks at it: its end, when it is not restarted, may end all."
    )

    @property
    def id(self) -> str:
        """Its name among its siblings: a pool and a supervisor may have the same one."""
        return pool_id(self.worker_pool) if self.worker_pool else supervisor_id(self.supervisor or "")

    def to_child(self) -> Child:
        """The child as the machine knows it."""
        within = {"Infinity": INFINITY, "BrutalKill": BRUTAL}.get(self.shutdown)
        return Child(
            self.id, Restart(self.restart), seconds(self.shutdown) if within is None else within, self.significant
        )


class SupervisorSpec(Model):
    """What is supervised, and how."""

    model_config = ConfigDict(json_schema_extra={CEL: _SPEC_RULES})

    strategy: str = Field(
        default="OneForOne",
        max_length=16,
        description="Who is restarted with a child that crashed: nobody (OneForOne), all (OneForAll), or those that "
        "stand after it in children (RestForOne).",
        json_schema_extra={CEL: _STRATEGY},
    )
    intensity: int = Field(
        default=3, ge=0, le=1000, description="More restarts than this within the period end the supervisor."
    )
    period: Duration = Field(
        default="5m",
        description="The time within which restarts count, in whole seconds. A container that keeps crashing is "
        "started by Kubernetes after 10, 20, 40 … 300 s: a period of seconds would never see it.",
        json_schema_extra={
            CEL: [
                rule(
                    r"self.matches('^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$') && duration(self) >= duration('1s')",
                    "must be a duration of at least 1s, such as 30s or 5m",
                )
            ]
        },
    )
    auto_shutdown: Literal["Never", "AnySignificant", "AllSignificant"] = Field(
        default="Never", description="Whether significant children that end and are not restarted end the supervisor."
    )
    children: list[SupervisorChild] = Field(
        max_length=64,
        description="Pools and supervisors in the order in which they are started; they are stopped in reverse.",
    )

    def to_flags(self) -> Flags:
        """The flags as the machine knows them."""
        return Flags(
            Strategy(self.strategy), self.intensity, math.ceil(seconds(self.period)), AutoShutdown(self.auto_shutdown)
        )


class SupervisorRestart(Model):
    """One end of a child and why: what counted as a restart, or could not be restarted."""

    at: Timestamp = Field(description="When it was seen.")
    child: str = Field(description="Which child: workerPool/NAME or supervisor/NAME.")
    reason: str = Field(default="", description="One word: OOMKilled, Error, Killed, Intensity, ...")
    message: str = Field(default="", description="One sentence.")
    worker: str = Field(default="", description="The worker (its pod has the same name) that crashed.")
    exit_code: int | None = Field(default=None, description="Exit code of its container.")
    tasks: list[str] = Field(default_factory=list, max_length=5, description="Tasks that it ran, as far as it said.")


class SupervisorChildStatus(Model):
    """A child as it stands."""

    name: str = Field(description="workerPool/NAME or supervisor/NAME.")
    state: str = Field(default="Running", description="Running, Restarting, Paused, Missing or Refused.")
    message: str = Field(default="", description="One sentence where there is more to say.")
    last_restart: Timestamp | None = Field(default=None, description="When it last ended.")


class SupervisorStatus(Model):
    """What the operator observed and decided."""

    observed_generation: int | None = Field(default=None, description="The spec's generation that this speaks of.")
    state: str = Field(
        default="Running",
        description="Running; Restarting while children are; Pausing and Paused when it ended or its parent stopped "
        "it; Degraded when it ended and nobody stands above it.",
    )
    reason: str = Field(default="", description="One word: Intensity, Significant, Stopped, ChildMissing, ...")
    parent: str = Field(default="", description="The Supervisor whose child this is.")
    children_running: str = Field(default="", description="Children that run, of all that the spec names, such as 2/3.")
    restarts: int = Field(default=0, description="Restarts within the period, until now.")
    children: list[SupervisorChildStatus] = Field(
        default_factory=list, max_length=64, description="The children in the spec's order."
    )
    last_restarts: list[SupervisorRestart] = Field(
        default_factory=list, max_length=LAST_RESTARTS, description="The last ends of children, newest first."
    )
    memory: dict[str, Any] | None = Field(
        default=None,
        description="What a new leader needs to go on in the middle of a restart. Not for reading.",
        json_schema_extra={"type": "object", PRESERVE: True},
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Ready; Degraded once it ended and nobody restarts it; ChildrenMissing and ChildrenRefused, with "
        "who and why.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class Supervisor(Model):
    """OTP's supervisor over pools and supervisors."""

    spec: SupervisorSpec
    status: SupervisorStatus | None = None


POOL, SUPERVISOR = "workerPool", "supervisor"


def pool_id(name: str) -> str:
    return f"{POOL}/{name}"


def supervisor_id(name: str) -> str:
    return f"{SUPERVISOR}/{name}"


def name_in(child: str) -> str:
    """The object's name in a child's id."""
    return child.partition("/")[2]


def is_pool(child: str) -> bool:
    return child.startswith(f"{POOL}/")
