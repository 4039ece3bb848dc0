"""Floors, ceilings and what holds a number where it is; they come last, and win over need and speed.

Owns which bound applies and how it is named. The highest floor (minWorkers, schedules), then the lowest ceiling
(maxWorkers, schedules, the group's allowance): where they conflict, the ceiling. Bounds work at once, past windows and
policies, as an HPA's do. What holds (no room on the nodes, a pause, doubt about the data) comes after them: it never
moves the number, it only keeps it from moving one way.
"""

from millpond_scaling.model import Observation, Policy
from millpond_scaling.sanity import doubtful
from millpond_scaling.schedules import Unreadable, is_active
from millpond_scaling.trail import Trail, count

Bound = tuple[int, str]


def apply_bounds(trail: Trail, seen: Observation, policy: Policy) -> tuple[int, int]:
    """Into the floor and under the ceiling; both, for the inputs."""
    floor: Bound = (policy.min_workers, "minWorkers")
    ceiling: Bound = (policy.max_workers, "maxWorkers")
    for schedule in policy.schedules:
        active = is_active(schedule, seen.wall)
        name = f"schedule {schedule.name}"
        if isinstance(active, Unreadable):
            trail.note(name, f"{name} has no effect: {active.why}")
        elif active:
            if schedule.min_workers is not None and schedule.min_workers > floor[0]:
                floor = (schedule.min_workers, name)
            if schedule.max_workers is not None and schedule.max_workers < ceiling[0]:
                ceiling = (schedule.max_workers, name)
    if seen.allowance is not None and seen.allowance < ceiling[0]:
        ceiling = (seen.allowance, f"group {seen.group}" if seen.group else "group")
    trail.to(floor[1], max(trail.workers, floor[0]), f"{floor[1]} asks for {floor[0]}")
    trail.to(ceiling[1], min(trail.workers, ceiling[0]), f"{ceiling[1]} allows {ceiling[0]}")
    return min(floor[0], ceiling[0]), ceiling[0]


def apply_holds(trail: Trail, seen: Observation, policy: Policy, current: int) -> None:
    """Keep it from growing or shrinking where that can't, should not or must not be."""
    if seen.unschedulable and current > 0:
        pods = "1 pod finds" if seen.unschedulable == 1 else f"{seen.unschedulable} pods find"
        why = f" ({seen.unschedulable_why})" if seen.unschedulable_why else ""
        trail.to("unschedulable", min(trail.workers, current), f"{pods} no node{why}, so it stays at {current}")
    if policy.pause == "Up":
        trail.to("pause", min(trail.workers, current), f"pause Up adds nothing to {count(current)}")
    if policy.pause == "Down":
        trail.to("pause", max(trail.workers, current), f"pause Down keeps {count(current)}")
    if doubt := doubtful(seen):
        trail.to("doubt", max(trail.workers, current), f"{doubt}, so {count(current)} stay")
