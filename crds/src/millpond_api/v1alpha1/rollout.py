"""spec.rollout of a WorkerPool and what its status says of it: how a new template takes over from the old one."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from millpond_api.v1alpha1.common import CEL, Duration, Model, Timestamp, rule

_COUNT_RULE = rule(
    "type(self) == int ? self >= 0 && self <= 10000 : self.matches('^[0-9]{1,3}%$')",
    "must be a number of workers, or per cent of them such as 25%",
)

WorkersOrPercent = Annotated[
    int | str, WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 8, CEL: [_COUNT_RULE]})
]
"""A number of workers, or per cent of them as text such as `25%`."""


def count_of(amount: int | str, total: int, *, up: bool) -> int:
    """The workers that `amount` stands for among `total`; per cent are rounded up or down (as a Deployment does)."""
    if isinstance(amount, int):
        return amount
    scaled = int(amount.removesuffix("%")) * total
    return -(-scaled // 100) if up else scaled // 100


class Canary(Model):
    """The new version proves itself with a share of the workers first; a failure rolls back by itself."""

    share: int = Field(default=10, ge=1, le=100, description="Per cent of the workers that the new version gets first.")
    duration: Duration = Field(default="5m", description="It must do well for this long before it gets the rest.")
    max_failure_rate: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the new version's attempts that may fail, such as 0.1. More, and the rollout is undone.",
    )
    min_tasks: int = Field(
        default=10, ge=0, le=1_000_000, description="Attempts that must have ended before the rate counts for anything."
    )


_ROLLOUT_RULES: Any = [
    rule(
        # The API server checks the schema's own default, {}, before it has filled the fields in.
        "!has(self.maxSurge) || !has(self.maxUnavailable)"
        " || !((type(self.maxSurge) == int ? self.maxSurge == 0 : self.maxSurge == '0%')"
        " && (type(self.maxUnavailable) == int ? self.maxUnavailable == 0 : self.maxUnavailable == '0%'))",
        "maxSurge and maxUnavailable must not both be 0: no worker could ever be replaced",
    )
]


class Rollout(Model):
    """How a changed template reaches the workers. Old ones finish what they run, however long that takes."""

    model_config = ConfigDict(json_schema_extra={CEL: _ROLLOUT_RULES})

    max_surge: WorkersOrPercent = Field(
        default="25%",
        description="Workers beyond the wanted number while old and new ones are there: a number or per cent, rounded "
        "up. Old workers that still finish a task count.",
    )
    max_unavailable: WorkersOrPercent = Field(
        default=0,
        description="Workers that may be missing from the wanted number during a rollout: a number or per cent, "
        "rounded down.",
    )
    progress_deadline: Duration = Field(
        default="5m", description="A rollout whose new workers can't start for this long is called stalled."
    )
    canary: Canary | None = Field(
        default=None,
        description="Try the new version with some of the workers first, and roll back by itself when their tasks fail "
        "or they can't start.",
    )


class RolloutStatus(Model):
    """The rollout under way, or the last one."""

    phase: Literal["RollingOut", "Canary", "Stalled", "RolledBack", "Complete"] = Field(
        default="Complete", description="RollingOut, Canary, Stalled, RolledBack or Complete."
    )
    version: str = Field(default="", description="The version that the spec asks for.")
    stable: str = Field(default="", description="The version that last completed a rollout; a rollback goes to it.")
    workers: int | None = Field(
        default=None, description="Workers that scaling asks for, while there are more of both versions together."
    )
    since: Timestamp | None = Field(
        default=None, description="When it began, or took its last turn (promoted, rolled back, complete)."
    )
    serving_since: Timestamp | None = Field(
        default=None, description="When the first worker of the new version was ready."
    )
    succeeded: int = Field(default=0, description="Attempts that succeeded on the new version's workers.")
    failed: int = Field(default=0, description="Attempts that failed on the new version's workers.")
    progress: str = Field(default="", description="New workers of wanted ones, such as 2/5.")
    message: str = Field(default="", description="One sentence.")


class VersionStatus(Model):
    """One version of the pool's template: a Deployment of its own."""

    version: str = Field(description="First 8 digits of the template's hash; label millpond.dev/version of its pods.")
    deployment: str = Field(description="Name of its Deployment.")
    image: str = Field(default="", description="The worker's image.")
    replicas: int = Field(default=0, description="Workers that it is asked for.")
    ready: int = Field(default=0, description="Workers of it that are ready.")
    busy: int = Field(default=0, description="Workers of it that run at least one task.")
    since: Timestamp | None = Field(default=None, description="When the version was made.")
