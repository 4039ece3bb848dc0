"""How fast the number may move: tolerance, stabilization windows and rate policies, as an HPA has them.

Owns HPA's `behavior` (Kubernetes' documentation "Configurable scaling behavior"; pkg/controller/podautoscaler:
Tolerances.isWithin, stabilizeRecommendationWithBehaviors, calculateScaleUpLimitWithScalingRules and its sibling for
down). Bounds come after it, and win over it, as in the HPA. Three things differ, on purpose:
- percentages are exact integers: 10 workers + 10 % are 11, where floating point makes 12 of 11.000000000000002;
- a Percent policy lets a pool go from 0 to 1: per cent of nothing would hold it at zero for ever (an HPA never
  scales from zero);
- what changed is what was seen to change, so that a drain that takes minutes is not counted again at every look.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from millpond_scaling.model import Behavior, Memory, Policy, RatePolicy
from millpond_scaling.trail import Trail, count

Timed = tuple[tuple[float, int], ...]
Merge = Callable[[Iterable[int]], int]

LONGEST_LIST = 64
"""Entries that a window keeps exactly. More are merged, to the safe side: what holds, holds longer."""
PARTS = 32
"""Of a window in which entries are merged: what holds, holds up to 1/32 of the window longer."""


def within_tolerance(raw: float, current: int, policy: Policy) -> bool:
    """Whether need and workers are close enough to leave the number as it is; a pool at zero or without work is not."""
    if current <= 0 or raw <= 0:
        return False
    ratio = raw / current
    return 1.0 - policy.scale_down.tolerance <= ratio <= 1.0 + policy.scale_up.tolerance


def changes_until(memory: Memory, policy: Policy, current: int, now: float) -> Timed:
    """What came and went within the longest period; what is new since the last look, at the time of that look."""
    if memory.seen is None:
        return ()
    at, before = memory.seen
    if current == before and not memory.changes:
        return ()
    longest = max((one.period for one in (*policy.scale_up.policies, *policy.scale_down.policies)), default=0.0)
    changes = tuple([(then, delta) for then, delta in memory.changes if now - then < longest])
    if current != before and now - at < longest:
        changes = _shorten((*changes, (at, current - before)), longest, sum)
    return changes


def stabilize(trail: Trail, memory: Memory, policy: Policy, current: int, now: float) -> tuple[Timed, Timed]:
    """Up to the least and down to the most that was needed within the windows; the next needs and lows.

    At the first look the windows begin with what runs: a new leader knows nothing of the time before it
    (recordInitialRecommendation).
    """
    need, down, up = trail.workers, policy.scale_down.stabilization, policy.scale_up.stabilization
    first = ((now, current),) if memory.seen is None else ()
    needs, lows = memory.needs or first, memory.lows or first
    most, least = need, need
    if down > 0:
        needs = tuple([(at, known) for at, known in needs if now - at < down and known > need])
        most = max([known for _, known in needs], default=need)
        needs = _shorten((*needs, (now, need)), down, max)
    if up > 0:
        lows = tuple([(at, known) for at, known in lows if now - at < up and known < need])
        least = min([known for _, known in lows], default=need)
        lows = _shorten((*lows, (now, need)), up, min)
    stable = min(max(current, least), most)
    if need < current:
        trail.to("scaleDown.stabilization", stable, f"scaleDown.stabilization keeps {count(stable)}")
    elif need > current:
        trail.to("scaleUp.stabilization", stable, f"scaleUp.stabilization allows {stable}")
    return needs if down > 0 else (), lows if up > 0 else ()


def limit_rate(trail: Trail, changes: Timed, policy: Policy, current: int, now: float) -> None:
    """As far as the policies allow in this period, counting what came and went in it."""
    wanted = trail.workers
    if wanted > current:
        highest = _up_limit(_Past(current, changes, now), policy.scale_up)
        allowed = wanted if highest is None else min(wanted, max(current, highest))
        trail.to("scaleUp.policies", allowed, _sentence("scaleUp", "allow", policy.scale_up, allowed))
    elif wanted < current:
        lowest = _down_limit(_Past(current, changes, now), policy.scale_down)
        allowed = wanted if lowest is None else max(wanted, min(current, lowest))
        trail.to("scaleDown.policies", allowed, _sentence("scaleDown", "keep", policy.scale_down, allowed))


@dataclass(frozen=True)
class _Past:
    current: int
    changes: Timed
    now: float

    def workers_before(self, period: float) -> int:
        """Workers at the period's beginning."""
        return self.current - sum(delta for at, delta in self.changes if self.now - at < period)


def _up_limit(past: _Past, behavior: Behavior) -> int | None:
    if behavior.select == "Disabled":
        return past.current
    limits = [_up(past.workers_before(one.period), one) for one in behavior.policies]
    if not limits:
        return None
    return min(limits) if behavior.select == "Min" else max(limits)


def _down_limit(past: _Past, behavior: Behavior) -> int | None:
    if behavior.select == "Disabled":
        return past.current
    limits = [_down(past.workers_before(one.period), one) for one in behavior.policies]
    if not limits:
        return None
    return max(limits) if behavior.select == "Min" else min(limits)


def _up(start: int, policy: RatePolicy) -> int:
    """Rounded up, else a small pool would never grow (calculateScaleUpLimitWithScalingRules)."""
    if policy.type == "Pods":
        return start + policy.value
    return max(1, -(-start * (100 + policy.value) // 100))


def _down(start: int, policy: RatePolicy) -> int:
    """Rounded down, so that some per cent of a few workers is at least one (calculateScaleDownLimitWithBehaviors)."""
    if policy.type == "Pods":
        return max(0, start - policy.value)
    return max(0, start * (100 - policy.value) // 100)


def _sentence(name: str, verb: str, behavior: Behavior, workers: int) -> str:
    if behavior.select == "Disabled":
        return f"{name} is disabled, so it stays at {workers}"
    return f"{name}.policies {verb} {count(workers)} for now"


def _shorten(entries: Timed, window: float, merge: Merge) -> Timed:
    """At most LONGEST_LIST entries: those of one part of the window become one, with the later time."""
    if len(entries) <= LONGEST_LIST:
        return entries
    part = window / PARTS
    groups = groupby(entries, key=lambda entry: entry[0] // part)
    return tuple([(group[-1][0], merge([n for _, n in group])) for group in (list(group) for _, group in groups)])
