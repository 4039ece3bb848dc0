"""The operator's Prometheus metrics, named once."""

from prometheus_client import Counter, Gauge, Histogram

from millpond_operator.cluster_key import PoolKey

_POOL = ("namespace", "pool")

LEADER = Gauge("millpond_leader", "1 while this process leads.")
LAG = Gauge("millpond_pool_lag", "Tasks waiting and in flight.", _POOL)
WORKERS = Gauge("millpond_pool_workers", "Replicas of the pool's Deployment.", _POOL)
DESIRED = Gauge("millpond_pool_desired_workers", "Workers that the last decision asked for.", _POOL)
DECISIONS = Counter("millpond_scaling_decisions_total", "Applied scaling decisions.", (*_POOL, "reason"))
TASKS = Counter("millpond_task_transitions_total", "Transitions of tasks seen by this leader.", (*_POOL, "state"))
WAKE_SECONDS = Histogram(
    "millpond_wake_seconds",
    "First task enqueued (its submitter's clock) to Deployment patched, for pools at zero.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
LEDGER_DROPPED = Counter("millpond_ledger_dropped_total", "Scaling records that could not be published.")
BURST_SECONDS = Histogram(
    "millpond_burst_seconds",
    "A task heard of (enqueued by its submitter's clock) to Deployment patched, for pools above zero.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
TICK_SECONDS = Histogram(
    "millpond_tick_seconds",
    "One pass over all pools.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1, 1.5, 2, 2.5, 5),
)
REQUESTS = Counter("millpond_api_requests_total", "Requests that the API server answered.", ("verb", "resource"))
STATUS_WRITES = Counter("millpond_status_writes_total", "Status patches sent.")


def observe_pool(key: PoolKey, lag: int, current: int, desired: int) -> None:
    """What the last look at a pool saw."""
    LAG.labels(*key).set(lag)
    WORKERS.labels(*key).set(current)
    DESIRED.labels(*key).set(desired)


def count_request(method: str, url_path: str) -> None:
    """One answered request of the API server, by verb and kind."""
    _, _, scoped = url_path.partition("/namespaces/")
    words = scoped.split("/")[1:] if "/" in scoped else [url_path.rpartition("/")[2]]
    REQUESTS.labels(method, "/".join((words[0], *words[2:]))).inc()
