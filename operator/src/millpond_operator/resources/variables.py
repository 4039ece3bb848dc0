"""What a pool's workers are told, from its spec: the MILLPOND_ variables, pure.

Owns the one translation of a spec into them. A pod has them in its Deployment; a worker outside the cluster reads them
from the message that `make_settings` makes. A variable that says nothing of its own is left out, because a variable
more in the template would be another version of it, and every worker would be replaced.
"""

import json
from datetime import datetime

from millpond_api.durations import parse_duration
from millpond_api.events import MAX_INLINE_RESULT
from millpond_api.quantities import parse_bytes
from millpond_api.remote import PoolSettings
from millpond_api.shares import class_weights
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_api.v1alpha1.limits import make_pool_limits

from millpond_operator.cluster_key import PoolKey


def make_settings(key: PoolKey, spec: WorkerPoolSpec, at: datetime) -> PoolSettings:
    """What workers outside the cluster are told: all but where NATS is, which they know better."""
    return PoolSettings(at=at, variables=make_variables(key, spec, {}, 0))


def make_variables(key: PoolKey, spec: WorkerPoolSpec, address: dict[str, str], http_port: int) -> dict[str, str]:
    """The variables of every worker of the pool; `address` is put before them. No port: no health pages."""
    return {
        **address,
        "MILLPOND_NAMESPACE": key.namespace,
        "MILLPOND_POOL": key.pool,
        "MILLPOND_APP": spec.app,
        "MILLPOND_CONCURRENCY": str(spec.concurrency),
        "MILLPOND_CLASSES": ",".join(spec.queue.classes),
        "MILLPOND_WEIGHTS": json.dumps(class_weights(spec.queue.classes, spec.queue.weights)),
        "MILLPOND_PRIORITY": spec.queue.priority,
        "MILLPOND_FAIR_LANES": str(spec.queue.fairness.lanes if spec.queue.fairness else 0),
        "MILLPOND_RETRY": spec.retry.to_policy().model_dump_json(),
        "MILLPOND_LEASE": f"{parse_duration(spec.timeouts.lease):g}",
        "MILLPOND_POISON_LIMIT": str(spec.retry.max_lost_workers),
        "MILLPOND_GRACE": f"{parse_duration(spec.shutdown.grace_period):g}",
        **({"MILLPOND_HTTP_PORT": str(http_port)} if http_port else {}),
        **_isolation(spec),
        **_supervision(spec),
        **_results(spec),
        **_dead_letter(spec),
        **_leases(spec),
        **_limits(spec),
    }


def _supervision(spec: WorkerPoolSpec) -> dict[str, str]:
    """As below."""
    intensity, period = spec.supervision.intensity, spec.supervision.period
    said = {} if intensity is None else {"MILLPOND_RESTART_INTENSITY": str(intensity)}
    return said | ({"MILLPOND_RESTART_PERIOD": f"{parse_duration(period):.0f}"} if period else {})


def _results(spec: WorkerPoolSpec) -> dict[str, str]:
    """As below: nothing, while the pool says nothing of its own."""
    results = spec.results
    if results == type(results)():
        return {}
    wanted = {
        "ttl": parse_duration(results.ttl),
        "inline_max": min(parse_bytes(results.inline_max), MAX_INLINE_RESULT),
        "codecs": results.codecs,
        "pickle": results.pickle,
    }
    return {"MILLPOND_RESULTS": json.dumps(wanted)}


def _dead_letter(spec: WorkerPoolSpec) -> dict[str, str]:
    """As above."""
    retention = spec.dead_letter.retention
    return {"MILLPOND_LETTER_TTL": f"{parse_duration(retention):g}"} if retention else {}


def _leases(spec: WorkerPoolSpec) -> dict[str, str]:
    """As above."""
    leases = spec.leases
    if leases == type(leases)():
        return {}
    longest = leases.max_duration and parse_duration(leases.max_duration)
    return {"MILLPOND_LEASES": json.dumps({"ttl": parse_duration(leases.ttl), "max_duration": longest})}


def _limits(spec: WorkerPoolSpec) -> dict[str, str]:
    """As below."""
    limits = make_pool_limits(spec.rate_limit, spec.concurrency_limits)
    wanted = limits.encode().decode()
    return {"MILLPOND_LIMITS": wanted} if wanted != "{}" else {}


def _isolation(spec: WorkerPoolSpec) -> dict[str, str]:
    """Only what the pool says: a variable more would be another template, and every worker would be replaced."""
    isolation, timeouts = spec.isolation, spec.timeouts
    wanted = {
        "SOFT_TIMEOUT": timeouts.soft and f"{parse_duration(timeouts.soft):g}",
        "TIMEOUT": timeouts.hard and f"{parse_duration(timeouts.hard):g}",
        "ISOLATION": "" if isolation.mode == "Auto" else isolation.mode.lower(),
        "PROCESS_MEMORY": isolation.memory_limit and str(parse_bytes(isolation.memory_limit)),
        "PROCESS_TASKS": isolation.recycle_after_tasks and str(isolation.recycle_after_tasks),
        "PROCESS_RECYCLE_MEMORY": isolation.recycle_above_memory and str(parse_bytes(isolation.recycle_above_memory)),
    }
    return {f"MILLPOND_{name}": value for name, value in wanted.items() if value}
