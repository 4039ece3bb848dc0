"""Leases beside a real API server: waiting wakes a pool, the Worker names the owner, no leased worker is removed."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from millpond import sync

from tests.support.eventually import eventually_sync
from tests.support.kube import Body
from tests.support.works import LONG, Works

SCALING = {"maxWorkers": 3, "idleAfter": "1s", "scaleDown": {"stabilization": "1s"}}


@contextmanager
def holding(works: Works, pool: str) -> Iterator[tuple["Future[str]", threading.Event]]:
    """A client that waits for a slot and holds it until the event: the worker's name once it has it."""
    held: Future[str] = Future()
    leave = threading.Event()

    def hold() -> None:
        with (
            sync.Client(works.server.url, namespace=works.namespace) as client,
            client.checkout(pool, timeout=None, owner="ann") as worker,
        ):
            held.set_result(worker.worker)
            leave.wait()

    with ThreadPoolExecutor(1) as threads:
        holder = threads.submit(hold)
        try:
            yield held, leave
        finally:
            leave.set()
        holder.result()


def worker_is(works: Works, name: str, state: str) -> Body:
    """The Worker's status once it is in this state."""

    def look() -> Body:
        status: Body = works.kube.get("workers", name).get("status") or {}
        assert status.get("state") == state, status
        return status

    return eventually_sync(look, LONG, f"worker {name} {state}") or {}


def test_a_waiting_client_wakes_a_pool_and_its_leased_worker_stays_until_it_is_checked_in(
    works: Works, pool: str
) -> None:
    works.make_pool(pool, scaling=SCALING, leases={"ttl": "20s"})
    works.pool_is_ready(pool)
    with holding(works, pool) as (held, leave):
        works.scales_to(pool, 1)
        works.start_worker_of_pod(pool)
        name = held.result(LONG)
        status = worker_is(works, name, "Leased")
        eventually_sync(lambda: running_of(works, name) == [("millpond.lease", "ann")], LONG, "the owner in the status")
        assert "ann" in works.kube.kubectl("get", "workers", name, "-o", "wide")
        eventually_sync(lambda: told(works, pool)["lag"] == 1, LONG, "the lease in the pool's lag")
        # Idle for this long it would have been drained: three times the pool's idleAfter and stabilization.
        eventually_sync(lambda: age_of(status) > 6, LONG, "a while")
        assert works.deployment_replicas(pool) == 1
        before = [step["state"] for step in works.kube.get("workers", name)["status"]["transitions"]]
        assert "Draining" not in before
        leave.set()
    works.scales_to(pool, 0)


def running_of(works: Works, name: str) -> list[tuple[str, str]]:
    status = works.kube.get("workers", name).get("status") or {}
    return [(one["handler"], one["owner"]) for one in status.get("running") or []]


def told(works: Works, pool: str) -> dict[str, Any]:
    found: dict[str, Any] = works.kube.get("workerpools", pool).get("status") or {}
    return found


def age_of(status: Body) -> float:
    """Seconds in its state; the machine's clock is the worker's."""
    return (datetime.now(UTC) - datetime.fromisoformat(status["since"])).total_seconds()
