"""Versions of a pool's template on a real API server: one Deployment each, and which of them has the say.

No node is there: pods stay unschedulable, so what is seen here is what the operator asks for.
"""

from typing import Any

from millpond_api import API_VERSION, LABEL_POOL, LABEL_VERSION

from tests.support.eventually import eventually_sync
from tests.support.kube import Body, condition
from tests.support.works import LOOK, Works

LONG = 120.0


def status_of(works: Works, pool: str) -> Body:
    found: Body = works.kube.get("workerpools", pool).get("status") or {}
    return found


def phase_of(works: Works, pool: str) -> str:
    return str(status_of(works, pool).get("rollout", {}).get("phase"))


def versions_of(works: Works, pool: str) -> dict[str, int]:
    """Replicas by version, oldest first."""
    return {
        body["metadata"]["labels"].get(LABEL_VERSION, ""): int(body["spec"].get("replicas", 0))
        for body in works.kube.deployments(pool)
    }


def change(works: Works, pool: str, **spec: Any) -> None:
    works.kube.patch("workerpools", pool, {"spec": spec})


def test_a_pool_at_zero_just_switches_to_the_new_version(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"maxWorkers": 3})
    works.pool_is_ready(pool)
    (old,) = versions_of(works, pool)
    change(works, pool, concurrency=3)
    eventually_sync(lambda: list(versions_of(works, pool)) not in ([], [old]), LONG, "another version", LOOK)
    eventually_sync(lambda: len(versions_of(works, pool)) == 1, LONG, "the old version gone", LOOK)
    eventually_sync(lambda: phase_of(works, pool) == "Complete", LONG, "the rollout complete", LOOK)
    # What follows is scaled from zero as ever.
    works.make_task(f"{pool}-a", pool)
    works.scales_to(pool, 1)


def test_workers_that_serve_nobody_move_to_the_new_version_at_once(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"minWorkers": 2, "maxWorkers": 2})
    works.scales_to(pool, 2)
    (old,) = versions_of(works, pool)
    change(works, pool, concurrency=3)

    def has_moved() -> bool:
        found = versions_of(works, pool)
        return old not in found and list(found.values()) == [2]

    eventually_sync(has_moved, LONG, "two workers of the new version alone", LOOK)
    eventually_sync(lambda: len(status_of(works, pool)["versions"]) == 1, LONG, "one version in the status", LOOK)

    def says_why() -> bool:
        progressing = condition(works.kube.get("workerpools", pool), "Progressing")
        assert (progressing["status"], progressing["reason"]) == ("True", "RollingOut"), "it is not called complete"
        return "new workers can't start" in progressing["message"]

    eventually_sync(says_why, LONG, "the sentence on why nothing starts", LOOK)
    assert status_of(works, pool)["desired"] == 2, "the surge is not what scaling asks for"


def test_a_canary_that_cannot_start_is_undone_until_the_template_changes(works: Works, pool: str) -> None:
    rollout = {"progressDeadline": "2s", "canary": {"share": 50}}
    works.make_pool(pool, scaling={"minWorkers": 2, "maxWorkers": 2}, rollout=rollout)
    works.scales_to(pool, 2)
    (good,) = versions_of(works, pool)
    change(works, pool, concurrency=3)
    eventually_sync(lambda: phase_of(works, pool) == "RolledBack", LONG, "the rollback", LOOK)
    eventually_sync(lambda: versions_of(works, pool) == {good: 2}, LONG, "the proven version alone", LOOK)
    progressing = condition(works.kube.get("workerpools", pool), "Progressing")
    assert progressing["reason"] == "RolledBack"
    assert "no worker of the new version could start within 2 s" in progressing["message"]
    # Another change that is none of the template's does not try it again.
    change(works, pool, scaling={"minWorkers": 3, "maxWorkers": 3})
    works.scales_to(pool, 3)
    assert list(versions_of(works, pool)) == [good]
    change(works, pool, concurrency=4)
    eventually_sync(lambda: phase_of(works, pool) == "Canary", LONG, "another try with another template", LOOK)


def test_a_new_leader_goes_on_with_a_rollback(own_works: Works) -> None:
    works, pool = own_works, "lead"
    operator = works.start_operator()
    works.make_pool(pool, scaling={"minWorkers": 2, "maxWorkers": 2}, rollout={"progressDeadline": "1s", "canary": {}})
    works.scales_to(pool, 2)
    (good,) = versions_of(works, pool)
    change(works, pool, concurrency=3)
    eventually_sync(lambda: phase_of(works, pool) == "RolledBack", LONG, "the rollback", LOOK)
    works.kill_leader(operator)
    works.start_operator("operator-b")
    eventually_sync(lambda: versions_of(works, pool) == {good: 2}, LONG, "the proven version alone", LOOK)
    change(works, pool, scaling={"minWorkers": 1, "maxWorkers": 1})
    works.scales_to(pool, 1)
    assert list(versions_of(works, pool)) == [good]


def test_a_deployment_of_an_earlier_operator_is_an_old_version(own_works: Works) -> None:
    works, pool = own_works, "aged"
    body = works.make_pool(pool, scaling={"minWorkers": 1, "maxWorkers": 1})
    labels = {LABEL_POOL: pool, "app.kubernetes.io/managed-by": "millpond"}
    uid = body["metadata"]["uid"]
    owner = {"apiVersion": API_VERSION, "kind": "WorkerPool", "name": pool, "uid": uid, "controller": True}
    containers = [{"name": "worker", "image": "old:1"}]
    works.kube.create(
        "deployments",
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"{pool}-worker", "labels": labels, "ownerReferences": [owner]},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {LABEL_POOL: pool}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            },
        },
    )
    works.start_operator()

    def has_moved() -> bool:
        found = works.kube.deployments(pool)
        return (
            len(found) == 1 and LABEL_VERSION in found[0]["metadata"]["labels"] and works.deployment_replicas(pool) == 1
        )

    eventually_sync(has_moved, LONG, "the worker in the new version", LOOK)


def test_the_deployments_and_the_queue_of_a_deleted_pool_go_when_its_workers_are_gone(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"minWorkers": 2, "maxWorkers": 2})
    works.scales_to(pool, 2)
    (made,) = works.kube.deployments(pool)
    assert "ownerReferences" not in made["metadata"], "the garbage collector would stop busy workers"
    works.kube.delete("workerpools", pool)
    eventually_sync(lambda: works.kube.deployments(pool) == [], LONG, "no Deployment left", LOOK)


def test_a_pool_deleted_while_no_operator_was_there_is_cleaned_up_by_the_next(own_works: Works) -> None:
    works, pool = own_works, "gone"
    operator = works.start_operator()
    works.make_pool(pool, scaling={"minWorkers": 1, "maxWorkers": 1})
    works.scales_to(pool, 1)
    works.kill_leader(operator)
    works.kube.delete("workerpools", pool)
    assert len(works.kube.deployments(pool)) == 1
    works.start_operator("operator-b")
    eventually_sync(lambda: works.kube.deployments(pool) == [], LONG, "no Deployment left", LOOK)
