"""Whether a canary goes on, gets all workers, or is undone: pure.

The figures are the attempts that ended on the new version's workers, as their heartbeats count them. A worker that
never gets ready fails the canary after the progress deadline; a slow queue only makes it last longer.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from millpond_api.durations import parse_duration
from millpond_api.v1alpha1.rollout import Canary


class Verdict(StrEnum):
    """What becomes of the new version."""

    WAIT = "wait"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


@dataclass(frozen=True)
class Seen:
    """The new version so far. `since`: when the rollout began; `serving_since`: when its first worker was ready.

    `trouble` is (reason, message) of a worker that can't start; `serving` how many of its workers serve now.
    """

    since: datetime
    serving_since: datetime | None = None
    serving: int = 0
    succeeded: int = 0
    failed: int = 0
    trouble: tuple[str, str] | None = None


@dataclass(frozen=True)
class Finding:
    """The verdict and its sentence."""

    verdict: Verdict
    message: str


def decide_canary(canary: Canary, deadline: timedelta, seen: Seen, now: datetime) -> Finding:
    """The verdict at `now`. `deadline`: how long a worker may fail to start."""
    ended = seen.succeeded + seen.failed
    figures = f"{seen.failed} of {ended} attempts failed on the new version"
    if ended >= max(1, canary.min_tasks) and seen.failed / ended > canary.max_failure_rate:
        return Finding(Verdict.ROLL_BACK, f"{figures}; maxFailureRate is {canary.max_failure_rate:g}")
    if seen.trouble and not seen.serving and now - seen.since >= deadline:
        reason, message = seen.trouble
        text = f"no worker of the new version could start within {deadline.total_seconds():g} s: {reason}: {message}"
        return Finding(Verdict.ROLL_BACK, text)
    if seen.serving_since is None:
        return Finding(Verdict.WAIT, "the canary waits for its first ready worker")
    rest = seen.serving_since + timedelta(seconds=parse_duration(canary.duration)) - now
    if rest > timedelta():
        return Finding(Verdict.WAIT, f"{figures}; the canary lasts until {now + rest:%H:%M:%S} UTC")
    if ended < canary.min_tasks:
        return Finding(Verdict.WAIT, f"{figures}; the canary waits for {canary.min_tasks} ended attempts")
    return Finding(Verdict.PROMOTE, f"{figures}: it gets all workers")
