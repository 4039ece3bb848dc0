"""The limits of a pool as a manifest writes them, and as workers read them (`millpond_api.limits`)."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from millpond_api.limits import KeyPolicy, Places, PoolLimits, Rate, parse_rate
from millpond_api.v1alpha1.common import CEL, Model, rule

_RATE_CEL = "self.matches('^[1-9][0-9]{0,8}/([1-9][0-9]{0,4})?(s|m|h)$')"

RateText = Annotated[
    str,
    Field(
        max_length=24,
        json_schema_extra={
            CEL: [rule(_RATE_CEL, "must be a rate: a number, a slash and a time, such as 100/s, 5/m or 1/10s")]
        },
    ),
]
"""Text such as `100/s`."""

KEY_CEL: Any = [rule("self.matches('^[ -~]+$')", "must be a printable ASCII text")]

_POLICIES = {
    "Queue": KeyPolicy.QUEUE,
    "CancelNewest": KeyPolicy.CANCEL_NEWEST,
    "CancelRunning": KeyPolicy.CANCEL_RUNNING,
}


class RateLimit(Model):
    """How many tasks may start, evenly spaced. All workers of the pool share it."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL: [
                rule("has(self.rate) || has(self.perKey)", "say a rate, such as 100/s, or perKey"),
                rule("!has(self.burst) || self.burst == 1 || has(self.rate)", "burst belongs to rate: say it too"),
            ]
        }
    )

    rate: RateText | None = Field(default=None, description="Starts of the whole pool: 100/s, 5/m, 1/10s.")
    burst: int = Field(
        default=1, ge=1, le=100_000, description="Starts that may come at once after a rest. 1: always evenly spaced."
    )
    per_key: RateText | None = Field(default=None, description="Starts of the tasks of each rate key by itself.")


class ConcurrencyLimits(Model):
    """How many tasks of one concurrency key run at once in the whole pool."""

    per_key: int = Field(ge=1, le=1000, description="Tasks of each concurrency key that may run at once.")
    policy: Literal["Queue", "CancelNewest", "CancelRunning"] = Field(
        default="Queue",
        description="What becomes of a task that finds no place. Queue: it waits, first come first served. "
        "CancelNewest: it is cancelled. CancelRunning: those before it are cancelled.",
    )


def make_pool_limits(rate: RateLimit | None, places: ConcurrencyLimits | None) -> PoolLimits:
    """The same as workers read it."""
    return PoolLimits(
        rate=make_rate(rate),
        per_key=parse_rate(rate.per_key) if rate and rate.per_key else None,
        places=Places(limit=places.per_key, policy=_POLICIES[places.policy]) if places else None,
    )


def make_rate(limit: RateLimit | None) -> Rate | None:
    """The whole pool's rate, None without one."""
    return parse_rate(limit.rate, limit.burst) if limit and limit.rate else None
