"""The caches keep what is read, hear what is whole, and never go back in time."""

from typing import Any

import orjson
from millpond_operator.cluster.cache import Body, Cache, Key
from millpond_operator.cluster.keeping import keep_deployment, keep_pod, keep_pool, keep_worker, unpack
from millpond_operator.metrics import REQUESTS, count_request


def body(version: int, uid: str = "u", **status: Any) -> Body:
    meta = {
        "name": "w1",
        "namespace": "default",
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": "2030-01-01T00:00:00Z",
        "labels": {"millpond.dev/pool": "census", "app.kubernetes.io/name": "x"},
        "managedFields": [{"manager": "somebody"}],
    }
    containers = [{"name": "worker", "image": "x:1", "env": []}]
    spec = {"pool": "census", "replicas": 3, "template": {"spec": {"containers": containers}}, "containers": [{}]}
    return {"metadata": meta, "spec": spec, "status": status}


def test_listeners_hear_the_whole_new_body_and_the_cache_keeps_the_slim_one() -> None:
    cache, heard = Cache("pods", keep=keep_pod), []
    cache.subscribe(lambda old, new: heard.append((old, new)))
    cache.observe("ADDED", body(1, phase="Running"))
    assert heard[0][1]["status"] == {"phase": "Running"}
    kept = cache.get("default", "w1")
    assert kept is not None
    assert set(kept) == {"metadata"}
    assert kept["metadata"]["labels"] == {"millpond.dev/pool": "census"}


def test_an_older_version_and_a_buried_object_do_not_come_back() -> None:
    cache = Cache("workers", keep=keep_worker)
    cache.observe("MODIFIED", body(5, state="Busy"))
    cache.observe("ADDED", body(4, state="Idle"))
    assert cache.objects[Key("default", "w1")]["status"] == {"state": "Busy"}
    cache.observe("DELETED", body(6))
    cache.observe(None, body(5, state="Busy"))
    assert cache.objects == {}
    cache.observe("ADDED", body(7, uid="another", state="Idle"))
    assert cache.objects[Key("default", "w1")]["metadata"]["uid"] == "another"


def test_a_worker_without_a_status_says_none() -> None:
    assert keep_worker(body(1))["status"] is None


def test_a_pools_status_is_kept_packed_and_can_be_read_again() -> None:
    kept = keep_pool(body(1, lag=3, decisions=[{"reason": "Lag"}] * 20))
    assert orjson.loads(unpack(kept["packedStatus"])) == {"lag": 3, "decisions": [{"reason": "Lag"}] * 20}
    assert len(kept["packedStatus"]) < 100
    assert "status" not in kept
    assert "packedStatus" not in keep_pool(body(1))
    assert kept["spec"]["replicas"] == 3


def test_a_deployment_keeps_its_replicas_and_images_and_can_be_kept_again() -> None:
    kept = keep_deployment(keep_deployment(body(1, replicas=2)))
    images = [{"name": "worker", "image": "x:1"}]
    assert kept["spec"] == {"replicas": 3, "template": {"spec": {"containers": images}}}
    assert kept["status"] == {"replicas": 2}
    assert "managedFields" not in kept["metadata"]


def test_requests_are_counted_by_kind_and_subresource_not_by_name() -> None:
    def counted(resource: str) -> float:
        return float(REQUESTS.labels("PATCH", resource)._value.get())

    before = counted("deployments/scale"), counted("workerpools"), counted("pods")
    count_request("PATCH", "/apis/apps/v1/namespaces/default/deployments/census-worker/scale")
    count_request("PATCH", "/apis/millpond.dev/v1alpha1/workerpools")
    count_request("PATCH", "/api/v1/namespaces/default/pods/namespaces")
    after = counted("deployments/scale"), counted("workerpools"), counted("pods")
    assert [one - other for one, other in zip(after, before, strict=True)] == [1, 1, 1]
