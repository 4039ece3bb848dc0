"""spec.scaling of a WorkerPool: how many workers there are, and when."""

from typing import Literal

from pydantic import ConfigDict, Field

from millpond_api.v1alpha1.common import CEL, Duration, Model, rule


class Target(Model):
    """What the scaler aims for. Of several targets the one that needs most workers wins; none means lagPerSlot 1."""

    lag_per_slot: float | None = Field(
        default=None,
        gt=0,
        description="Waiting tasks that one slot may have in front of it. 1 starts a slot for every waiting task, "
        "10 lets ten wait for each slot. Tasks in flight always count as one slot each.",
    )
    latency: Duration | None = Field(
        default=None,
        description="Time in which what waits now should have started. Workers follow from the measured arrival rate "
        "and service time; until service times are known, lagPerSlot 1 is used.",
    )
    utilization: int | None = Field(
        default=None, ge=1, le=100, description="Per cent of the slots that should be busy on average."
    )


class RatePolicy(Model):
    """A limit on how many workers may come or go within a time, as in a HorizontalPodAutoscaler."""

    type: Literal["Pods", "Percent"] = Field(description="Whether value counts workers or per cent of the workers.")
    value: int = Field(ge=1, le=10000, description="Workers, or per cent of the workers at the period's beginning.")
    period: Duration = Field(description="The time that value is meant for, such as 15s.")


class Behavior(Model):
    """How fast the number of workers may move in one direction, as in a HorizontalPodAutoscaler."""

    stabilization: Duration = Field(
        default="0s",
        description="Only what was needed throughout this time counts, so that a short change moves nobody.",
    )
    policies: list[RatePolicy] = Field(
        default_factory=list, max_length=8, description="Limits on the change. None: as many as are needed at once."
    )
    select_policy: Literal["Max", "Min", "Disabled"] = Field(
        default="Max", description="Which policy counts: the one that allows most, least, or no change at all."
    )
    tolerance: float = Field(
        default=0.0, ge=0, le=1, description="Share by which need and workers may differ without a change, such as 0.1."
    )


class ScaleDown(Behavior):
    """How fast workers go. A busy worker is never stopped, whatever stands here."""

    stabilization: Duration = Field(
        default="5s",
        description="The pool shrinks only to the highest number of workers it needed within this time, so that a "
        "short gap in the queue stops nobody.",
    )


_CRON = [
    rule(
        r"self.matches('^[0-9A-Za-z*,/#-]+( +[0-9A-Za-z*,/#-]+){4}$')",
        "must be five cron fields, such as `0 8 * * 1-5`",
    )
]
_ZONE = [
    rule(r"self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')", "must be an IANA time zone, such as Europe/Berlin")
]


class Schedule(Model):
    """Bounds that hold between two cron moments, such as office hours."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL: [
                rule("has(self.minWorkers) || has(self.maxWorkers)", "set minWorkers, maxWorkers or both"),
                rule(
                    "!has(self.minWorkers) || !has(self.maxWorkers) || self.minWorkers <= self.maxWorkers",
                    "minWorkers must not be greater than maxWorkers",
                ),
                rule("self.start != self.end", "end must be another moment than start"),
            ]
        }
    )

    name: str = Field(min_length=1, max_length=63, description="How it is named in conditions and explanations.")
    start: str = Field(
        min_length=9,
        max_length=128,
        description="When it begins: five cron fields, such as `0 8 * * 1-5`.",
        json_schema_extra={CEL: _CRON},
    )
    end: str = Field(
        min_length=9,
        max_length=128,
        description="When it ends: five cron fields. Active while the last start is more recent than the last end.",
        json_schema_extra={CEL: _CRON},
    )
    time_zone: str = Field(
        default="UTC",
        max_length=64,
        description="IANA time zone of both, such as Europe/Berlin; its DST is followed. A moment in the hour that is "
        "skipped comes right after it, one in the hour that comes twice only the first time.",
        json_schema_extra={CEL: _ZONE},
    )
    min_workers: int | None = Field(default=None, ge=0, le=10000, description="Floor while it is active.")
    max_workers: int | None = Field(default=None, ge=0, le=10000, description="Ceiling while it is active.")


class Forecast(Model):
    """A floor ahead of the rush, from what the pool needed at this time before. It never lowers anything."""

    ahead: Duration = Field(
        default="10m", description="How long before the workers are needed they should be there, such as 10m."
    )
    season: Literal["Day", "Week"] = Field(
        default="Day",
        description="After which time the load repeats itself. Day learns sooner, Week knows weekends. Both in UTC.",
    )


class Scaling(Model):
    """How many workers there are, and when."""

    mode: Literal["Auto", "Shadow"] = Field(
        default="Auto",
        description="Shadow decides and records what it would do, and leaves the number of workers to spec.replicas "
        "(set by kubectl scale, an HPA or KEDA), so that both can be compared.",
    )
    min_workers: int = Field(default=0, ge=0, le=10000, description="Never fewer workers than this. 0 scales to zero.")
    max_workers: int = Field(default=10, ge=0, le=10000, description="Never more workers than this.")
    target: Target = Field(default_factory=Target, description="What the scaler aims for.")
    scale_up: Behavior = Field(default_factory=Behavior, description="How fast workers come.")
    scale_down: ScaleDown = Field(default_factory=ScaleDown, description="How fast workers go.")
    idle_after: Duration = Field(
        default="15s", description="The queue must be empty for this long before the last workers go to minWorkers."
    )
    activation_lag: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="A pool at zero starts workers only when its lag is greater than this.",
    )
    warm_workers: int = Field(
        default=0,
        ge=0,
        le=10000,
        description="Workers beyond what is needed, kept ready for what comes next, within maxWorkers. Unlike "
        "minWorkers they stay free: with 3 busy and 2 warm there are 5, and a pool at rest keeps 2.",
    )
    schedules: list[Schedule] = Field(
        default_factory=list,
        max_length=32,
        description="Floors and ceilings by the clock. The highest floor wins, and "
        "the lowest ceiling; where they conflict, the ceiling.",
    )
    forecast: Forecast | None = Field(
        default=None,
        description="Raises the floor ahead of a rush that the pool's own history foresees, within maxWorkers. Off "
        "until a season was learnt and a day was judged, and whenever it would waste more than it saves.",
    )
    priority: int = Field(
        default=0,
        ge=-1000,
        le=1000,
        description="Who goes first when the pools of a PoolGroup need more workers than it allows: higher first; "
        "equals share fairly.",
    )
    pause: Literal["None", "All", "Up", "Down"] = Field(
        default="None",
        description="Hold the number of workers: All keeps it as it is, Up adds none, Down takes none away. Workers go "
        "on with what is queued.",
    )
