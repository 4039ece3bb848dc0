"""What the caches tell of a pool's versions: whose Deployments count, what was asked for, who stays. No I/O."""

import time
from typing import Any, cast

from millpond_api import LABEL_POOL, LABEL_VERSION, UNVERSIONED
from millpond_api.v1alpha1.rollout import RolloutStatus
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.pods import read_pod
from millpond_operator.handlers.removing import count_staying
from millpond_operator.handlers.sides import REMOVAL_PATIENCE, read_candidates
from millpond_operator.handlers.world import World
from millpond_operator.main import make_world
from millpond_operator.resources.budget import make_budget
from millpond_operator.resources.deployment import MANAGED_BY
from millpond_operator.settings import Settings

POOL = PoolKey("team", "mill")


def world() -> World:
    nothing = cast(Any, None)
    return make_world(Settings(), nothing, nothing)


def deployment(version: str, replicas: int, minute: int = 0, **labels: str) -> dict[str, Any]:
    known = {LABEL_POOL: "mill", MANAGED_BY: "millpond", LABEL_VERSION: version} | labels
    return {
        "metadata": {
            "name": f"mill-worker-{version}",
            "namespace": "team",
            "uid": version,
            "resourceVersion": "1",
            "creationTimestamp": f"2026-03-01T12:{minute:02}:00Z",
            "labels": {name: value for name, value in known.items() if value},
        },
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "worker", "image": "mill:1"}]}}},
    }


def pod(name: str, version: str, *, going: bool = False) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": "team", "uid": name, "labels": {LABEL_VERSION: version}}
    meta["creationTimestamp"] = "2026-03-01T12:00:00Z"
    return {"metadata": meta | ({"deletionTimestamp": "2026-03-01T13:00:00Z"} if going else {})}


def test_the_versions_are_in_the_order_in_which_they_were_made_and_only_ours() -> None:
    seen = world()
    for body in (
        deployment("bbb", 1, 5),
        deployment("aaa", 2, 9),
        deployment("", 3, 1),
        deployment("foreign", 9, 3, **{MANAGED_BY: "somebody"}),
    ):
        seen.deployments.observe(None, body)
    assert list(seen.versions.of(POOL)) == [UNVERSIONED, "bbb", "aaa"]
    seen.deployments.observe("DELETED", deployment("bbb", 1, 5))
    assert list(seen.versions.of(POOL)) == [UNVERSIONED, "aaa"]


def test_the_surge_of_a_rollout_is_nothing_that_scaling_asked_for() -> None:
    seen = world()
    assert seen.workers_asked(POOL) is None
    seen.deployments.observe(None, deployment("aaa", 4))
    seen.deployments.observe(None, deployment("bbb", 1, 1))
    assert seen.workers_asked(POOL) == 5
    seen.memory[POOL].rollout = RolloutStatus(phase="RollingOut", workers=4)
    assert seen.workers_asked(POOL) == 4


def test_a_worker_that_a_dead_leader_was_removing_is_not_removed_at_the_cost_of_another() -> None:
    seen = world()
    for name in ("a", "b", "c"):
        seen.remember_worker(POOL, Key("team", name)).pod = read_pod(pod(name, "v1"))
    seen.remember_worker(POOL, Key("team", "d")).pod = read_pod(pod("d", "v2"))
    seen.remember_worker(POOL, Key("team", "e")).pod = read_pod(pod("e", "v1", going=True))
    # The dead leader lowered v1 from 3 to 2 for `a`. The new one retires `a` too: 2 workers stay.
    seen.memory[POOL].removed["a"] = 1.0
    assert count_staying(seen, POOL, "v1") == 2


def test_the_budget_allows_no_busy_worker_to_go_and_does_not_see_the_idle_ones() -> None:
    spec = make_budget(POOL)["spec"]
    assert spec["maxUnavailable"] == 0
    assert spec["selector"]["matchLabels"] == {LABEL_POOL: "mill", "millpond.dev/busy": "true"}


def removed_long_ago(replicas: int, *others: dict[str, Any]) -> list[str]:
    """A worker that was removed and whose pod still stands: who counts as going, and thereby as nobody's."""
    seen = world()
    body = deployment("aaa", replicas)
    # What its controller says is minutes old while thousands of pods go.
    body["status"] = {"replicas": 0}
    seen.deployments.observe(None, body)
    for one in (pod("w1", "aaa"), *others):
        name = one["metadata"]["name"]
        seen.remember_worker(POOL, Key("team", name)).pod = read_pod(one)
    seen.memory[POOL].removed["w1"] = time.monotonic() - REMOVAL_PATIENCE - 1
    return [one.name for one in read_candidates(seen, POOL) if one.going]


def test_a_slow_replicaset_controller_is_no_miss_while_it_has_more_pods_than_it_was_asked_for() -> None:
    assert removed_long_ago(1, pod("w2", "aaa")) == ["w1"]


def test_a_drained_worker_that_stands_when_the_removal_is_done_was_missed() -> None:
    ended = pod("w3", "aaa") | {"status": {"phase": "Failed"}}
    assert removed_long_ago(1) == []
    assert "w1" not in removed_long_ago(1, pod("w2", "aaa", going=True), ended, pod("w4", "bbb"))
