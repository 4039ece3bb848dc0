"""Workers outside the cluster beside a real operator: listed, working, drained, cancelled, lost; never a pod.

The operator's Deployments get pods that no node runs, so whatever is done here is done by the worker that joined.
"""

import socket
import subprocess
import sys
from collections.abc import Callable

from tests.support.eventually import eventually_sync
from tests.support.kube import Body, Kube, Refused
from tests.support.works import LONG, LOOK, Works

SCALING = {"minWorkers": 0, "maxWorkers": 3, "idleAfter": "1s", "scaleDown": {"stabilization": "0s"}}


def millpond(kube: Kube, *words: str) -> subprocess.CompletedProcess[str]:
    target = ("--kubeconfig", str(kube.kubeconfig), "--namespace", kube.namespace)
    command = [sys.executable, "-m", "millpond_cli.main", *words, *target]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def name_of(pool: str) -> str:
    return f"box-{pool}"


def reaches(works: Works, pool: str, state: str) -> Body:
    """The remote worker's object, once it says this state."""

    def look() -> Body:
        body = works.kube.get("workers", name_of(pool))
        status = body.get("status") or {}
        assert status.get("state") == state, (status.get("state"), status.get("reason"))
        return body

    return wait(look, f"{name_of(pool)} {state}")


def wait(look: Callable[[], Body], what: str) -> Body:
    def tolerant() -> Body:
        try:
            return look()
        except Refused as error:
            raise AssertionError(str(error)) from None

    return eventually_sync(tolerant, LONG, what, LOOK) or {}


def status_of(works: Works, pool: str) -> Body:
    return works.kube.get("workerpools", pool).get("status") or {}


def test_a_remote_worker_is_listed_does_the_work_and_no_pod_is_made_for_it(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling=SCALING)
    works.pool_is_ready(pool)
    worker = works.join_worker(pool, name_of(pool), "--concurrency", "8")
    body = reaches(works, pool, "Idle")
    assert body["spec"] == {"pool": pool, "pod": "", "remote": True}
    assert body["status"]["node"] == socket.gethostname()
    assert body["metadata"]["ownerReferences"][0]["name"] == pool
    for number in range(5):
        works.make_task(f"{pool}-{number}", pool)
    tasks = works.all_reach("Succeeded", pool, 5)
    assert {task["status"]["worker"] for task in tasks} == {name_of(pool)}
    assert works.deployment_replicas(pool) == 0

    def counted() -> Body:
        status = status_of(works, pool)
        assert (status.get("remoteWorkers"), status.get("remoteSlots")) == (1, 8), status
        return status

    status = wait(counted, "a remote worker in the pool's status")
    assert [one for one in status.get("decisions", []) if one["acted"]] == []
    assert "true" in works.kube.kubectl("get", "workers", name_of(pool), "-o", "wide")
    explained = millpond(works.kube, "explain", "pool", pool)
    assert "1 of them remote, with 8 slots" in explained.stdout, explained
    done = millpond(works.kube, "drain", "worker", name_of(pool), "--nats", works.server.url)
    assert (done.returncode, done.stdout) == (0, f"worker/{name_of(pool)}: drained\n"), done
    assert worker.ended() == 0
    assert reaches(works, pool, "Stopped")["status"]["reason"] == "Drained"
    again = millpond(works.kube, "drain", "worker", name_of(pool), "--nats", works.server.url)
    assert (again.returncode, "does not listen" in again.stderr) == (1, True), again


def test_lag_beyond_the_remote_slots_is_covered_by_pods_and_they_go_first_when_it_is_over(
    works: Works, pool: str
) -> None:
    works.make_pool(pool, scaling=SCALING)
    works.pool_is_ready(pool)
    works.join_worker(pool, name_of(pool))
    reaches(works, pool, "Idle")
    gate = works.gate("gate")
    works.make_task(f"{pool}-0", pool, "gate", [gate.path])
    gate.entered_sync(1)
    works.make_task(f"{pool}-1", pool, "gate", [gate.path])
    works.scales_to(pool, 1)
    gate.open()
    works.all_reach("Succeeded", pool, 2)
    works.scales_to(pool, 0)
    reaches(works, pool, "Idle")


def test_a_cancelled_task_ends_at_a_remote_worker_and_a_killed_one_is_lost_and_comes_back(
    works: Works, pool: str
) -> None:
    works.make_pool(pool, retry={"maxAttempts": 3})
    works.pool_is_ready(pool)
    worker = works.join_worker(pool, name_of(pool))
    gate = works.gate("gate")
    works.make_task(f"{pool}-c", pool, "gate", [gate.path])
    gate.entered_sync(1)
    works.kube.patch("tasks", f"{pool}-c", {"spec": {"cancel": True}})
    works.reaches(f"{pool}-c", "Cancelled")
    reaches(works, pool, "Idle")
    other = works.gate("other")
    works.make_task(f"{pool}-k", pool, "gate", [other.path])
    other.entered_sync(1)
    worker.kill9()
    assert reaches(works, pool, "Lost")["status"]["reason"] == "HeartbeatsMissed"
    other.open()
    works.join_worker(pool, name_of(pool))
    works.reaches(f"{pool}-k", "Succeeded")
    reaches(works, pool, "Idle")


def test_a_deleted_pool_drains_its_remote_worker_before_its_queue_goes(works: Works, pool: str) -> None:
    works.make_pool(pool, queue={"reclaimPolicy": "Delete"})
    works.pool_is_ready(pool)
    worker = works.join_worker(pool, name_of(pool))
    gate = works.gate("gate")
    works.make_task(f"{pool}-0", pool, "gate", [gate.path])
    gate.entered_sync(1)
    works.kube.delete("workerpools", pool)
    worker.await_event("leaving the pool")
    gate.open()
    works.reaches(f"{pool}-0", "Succeeded")

    def waits() -> Body:
        assert '"why": "the pool was deleted", "event": "waiting for the pool"' in worker.text()
        return {"said": True}

    wait(waits, "a worker that waits for its pool")
    assert worker.popen.poll() is None
