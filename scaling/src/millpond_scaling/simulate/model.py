"""What a simulation takes and gives: arrivals, assumptions, what a scaler sees and says, and what came of it.

Owns shapes alone. Times are seconds from the trace's beginning.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Arrival(NamedTuple):
    """A task: when it is put into the queue, and how long a slot works on it."""

    at: float
    service: float


@dataclass(frozen=True)
class PodStart:
    """From the change of replicas to a worker that pulls: schedule + (for a share of the pods) image pull + start.

    The start is log-normal with this median and sigma. Defaults: what a small Python worker took on a node that had
    the image (0.3 s to be scheduled and sandboxed, 1.2 s to connect), with a spread that doubles it for 1 in 40.
    """

    schedule: float = 0.3
    start: float = 1.2
    sigma: float = 0.35
    pull: float = 0.0
    pull_share: float = 0.0


@dataclass(frozen=True)
class Setting:
    """The world around the policy, the same for all of them."""

    slots: int = 1
    pod_start: PodStart = PodStart()
    stop: float = 0.5
    """From the last task's end to the pod being gone."""
    grace: float = 30.0
    """How long a pod that is told to go may go on with its task (terminationGracePeriodSeconds)."""
    tail: float = 600.0
    """Watched for this long after the last arrival, so that what stays around unused is counted."""
    seed: int = 1


class View(NamedTuple):
    """What a scaler may look at. `current`: workers asked for; `service`: mean of the last minutes, None: unknown."""

    now: float
    waiting: int
    in_flight: int
    current: int
    ready: int
    starting: int
    arrived: int
    finished: int
    service: float | None

    @property
    def lag(self) -> int:
        return self.waiting + self.in_flight


class Look(NamedTuple):
    """What a scaler says: the number of workers (None: as it is) and when it looks again."""

    target: int | None
    next: float


class Scaler(Protocol):
    """A policy with its own clock. It is asked at 0 and then at the times that it names."""

    name: str
    drains: bool
    """Takes away only workers that run nothing; else pods are told to go whatever they do."""
    grace: float | None
    """Its own grace for a pod that goes; None: the setting's."""

    def look(self, view: View) -> Look:
        """The decision at `view.now`."""
        ...

    def woken(self, now: float, current: int) -> float | None:
        """A task has arrived: when to look, if sooner than planned; None when arrivals wake nobody."""
        ...


class Moment(NamedTuple):
    """One point of the plot."""

    at: float
    waiting: int
    workers: int


@dataclass(frozen=True)
class Outcome:
    """What came of a trace under a policy. Queue latency: from arrival to the start of the attempt that finished."""

    policy: str
    latencies: tuple[float, ...]
    """Sorted."""
    worker_seconds: float
    busy_seconds: float
    """Slot-seconds of work that counted."""
    pods: int
    """Workers that were started."""
    changes: int
    flaps: int
    """Changes of the number of workers against the direction of the change before."""
    told_busy: int
    """Workers that were told to go while they ran a task."""
    interrupted: int
    """Tasks that were cut off and had to begin again."""
    unfinished: int
    peak: int
    series: tuple[Moment, ...]

    def percentile(self, share: float) -> float:
        """The smallest latency that at least this share (0 to 1) of the tasks did not exceed (nearest rank)."""
        if not self.latencies:
            return 0.0
        return self.latencies[max(0, math.ceil(share * len(self.latencies)) - 1)]


def dominates(one: Outcome, other: Outcome) -> bool:
    """Whether `one` has both a lower p99 and fewer worker-seconds, and finished as much without cutting tasks off."""
    return (
        one.percentile(0.99) < other.percentile(0.99)
        and one.worker_seconds < other.worker_seconds
        and one.unfinished <= other.unfinished
    )
