"""From a WorkerPool's spec to the policy that decides: pure, and the only place that knows both."""

from millpond_api.durations import parse_duration
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_api.v1alpha1.limits import make_rate
from millpond_api.v1alpha1.scaling import Behavior as BehaviorSpec
from millpond_api.v1alpha1.scaling import Schedule as ScheduleSpec

from millpond_scaling.forecast import DAY, WEEK, Plan
from millpond_scaling.model import Behavior, Policy, RatePolicy, Schedule


def make_policy(spec: WorkerPoolSpec) -> Policy:
    """The spec as the decision needs it."""
    scaling, target = spec.scaling, spec.scaling.target
    return Policy(
        min_workers=scaling.min_workers,
        max_workers=scaling.max_workers,
        slots=spec.concurrency,
        lag_per_slot=target.lag_per_slot,
        latency=parse_duration(target.latency) if target.latency else None,
        utilization=target.utilization / 100 if target.utilization else None,
        scale_up=_behavior(scaling.scale_up),
        scale_down=_behavior(scaling.scale_down),
        idle_after=parse_duration(scaling.idle_after),
        activation=scaling.activation_lag,
        warm=scaling.warm_workers,
        schedules=tuple(_schedule(schedule) for schedule in scaling.schedules),
        pause=scaling.pause,
        shadow=scaling.mode == "Shadow",
        manual=spec.replicas,
        rate=1 / rate.interval if (rate := make_rate(spec.rate_limit)) else None,
    )


def make_plan(spec: WorkerPoolSpec) -> Plan | None:
    """What the spec asks of the forecast; None when it is not wanted."""
    wanted = spec.scaling.forecast
    return Plan(parse_duration(wanted.ahead), WEEK if wanted.season == "Week" else DAY) if wanted else None


def _behavior(spec: BehaviorSpec) -> Behavior:
    policies = tuple(RatePolicy(one.type, one.value, parse_duration(one.period)) for one in spec.policies)
    return Behavior(parse_duration(spec.stabilization), policies, spec.select_policy, spec.tolerance)


def _schedule(spec: ScheduleSpec) -> Schedule:
    return Schedule(spec.name, spec.start, spec.end, spec.time_zone, spec.min_workers, spec.max_workers)
