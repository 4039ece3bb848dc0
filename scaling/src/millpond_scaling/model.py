"""What a scaling decision is made from and what it says: plain frozen data, no behaviour.

Owns the shapes alone. Everything is hashable and has a faithful JSON form (`records`), so that a recorded decision can
be made again, bit for bit. Times are seconds: `now` and what is remembered on any steady clock, `wall` as epoch.
"""

from dataclasses import dataclass, field
from typing import Literal

Value = int | float | str


@dataclass(frozen=True)
class RatePolicy:
    """At most `value` workers (Pods) or per cent of the workers (Percent) within `period` seconds, as in the HPA."""

    type: Literal["Pods", "Percent"]
    value: int
    period: float


@dataclass(frozen=True)
class Behavior:
    """How fast the number may move in one direction (HPA's `behavior.scaleUp` and `behavior.scaleDown`).

    `tolerance` is the share by which need and workers may differ without a change. No policies: no limit.
    """

    stabilization: float = 0.0
    policies: tuple[RatePolicy, ...] = ()
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """A floor or a ceiling between two cron moments: active when `start` was more recent than `end`."""

    name: str
    start: str
    end: str
    time_zone: str = "UTC"
    min_workers: int | None = None
    max_workers: int | None = None


@dataclass(frozen=True)
class Policy:
    """The pool's spec, as far as the decision needs it. Times in seconds.

    Targets that are None do not speak; of several the highest need wins. With none at all lag_per_slot is 1.
    """

    min_workers: int = 0
    max_workers: int = 10
    slots: int = 1
    lag_per_slot: float | None = None
    latency: float | None = None
    """Seconds in which what waits should have started."""
    utilization: float | None = None
    """Share (0 to 1) of the slots that should be busy."""
    scale_up: Behavior = Behavior()
    scale_down: Behavior = Behavior(stabilization=5.0)
    idle_after: float = 15.0
    activation: int = 0
    """A pool at zero stays there while its lag is not greater than this."""
    warm: int = 0
    """Workers beyond what is needed, kept ready for what comes next."""
    schedules: tuple[Schedule, ...] = ()
    pause: Literal["None", "All", "Up", "Down"] = "None"
    shadow: bool = False
    """Decide and say so, but leave the number to somebody else."""
    manual: int | None = None
    rate: float | None = None
    """Tasks that may start a second in the whole pool (spec.rateLimit): more workers could only wait for their turn."""


@dataclass(frozen=True)
class ClassLoad:
    """One priority class of the queue: tasks waiting, tasks ever stored, mean seconds of service (None: unknown)."""

    name: str
    waiting: int
    arrived: int
    service_seconds: float | None = None


@dataclass(frozen=True)
class Observation:
    """What was seen at one moment. None always means "not known", never zero.

    `lag` counts waiting and in-flight tasks, None when NATS did not answer; `in_flight` is None when workers that
    should have reported did not; `current` is the number of workers asked for, None when there is no Deployment yet.
    """

    lag: int | None
    in_flight: int | None
    current: int | None
    wake_delay_ms: float | None = None
    wall: float = 0.0
    """Epoch seconds: for schedules and forecasts."""
    ready: int | None = None
    """Workers that are ready to take tasks, without those that go; None while a rollout runs both generations."""
    arrived: int | None = None
    """Tasks ever stored in the queue, a counter; when it falls the queue was made anew."""
    service_seconds: float | None = None
    """Mean seconds that a task occupies its slot, over the workers' last minutes."""
    classes: tuple[ClassLoad, ...] = ()
    unschedulable: int = 0
    """Pods that no node has room for."""
    unschedulable_why: str = ""
    allowance: int | None = None
    """The most workers that the pool's group leaves to it."""
    group: str = ""
    forecast: int | None = None
    """Workers that the pool's own history says will be needed soon; None when the forecast is off."""
    remote_slots: int = 0
    """Slots of workers outside the cluster (of one that drains those in use), and the tasks in them (part of
    `in_flight`)."""
    remote_in_flight: int = 0
    paused_by: str = ""
    """The sentence of the supervisor that ended and holds the pool at zero; empty while none does."""


@dataclass(frozen=True)
class Memory:
    """What one decision leaves for the next; a new leader starts with an empty one.

    needs: (time, workers needed) within scaleDown's stabilization window, as far as they can still be its maximum;
    lows: the same for the minimum in scaleUp's; changes: (time, workers added or removed) within the rate policies'
    periods; rates: per class (time, arrived, arrivals a second, smoothed); seen: (time, workers) of the last look.
    """

    needs: tuple[tuple[float, int], ...] = ()
    empty_since: float | None = None
    changes: tuple[tuple[float, int], ...] = ()
    rates: tuple[tuple[str, float, int, float], ...] = ()
    lows: tuple[tuple[float, int], ...] = ()
    seen: tuple[float, int] | None = None
    stalled: tuple[float, int] | None = None
    """While tasks wait that remote workers have slots for: since when none was taken, and how many had been then."""


@dataclass(frozen=True)
class Step:
    """One rule that was applied on the way to the number: the number after it, and a sentence when it mattered."""

    rule: str
    workers: int
    text: str = ""


@dataclass(frozen=True)
class Decision:
    """How many workers there should be and why.

    `message` is the one sentence that feeds log, Event, condition and ledger alike; `clamp` names the rule that kept
    the number from what the queue needs, empty when nothing did; `steps` are all rules in order.
    """

    current: int
    target: int
    reason: str
    message: str
    clamp: str = ""
    inputs: dict[str, Value] = field(default_factory=dict)
    memory: Memory = Memory()
    steps: tuple[Step, ...] = ()

    @property
    def changes(self) -> bool:
        return self.target != self.current
