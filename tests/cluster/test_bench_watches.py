"""What benchmarks count is what the API server tells, also when it was away for a while."""

import time
from collections.abc import Iterator

import pytest
from millpond_cluster.api import Cluster

from bench import watches
from bench.watches import TARGET, Replicas, Watch
from tests.support.eventually import eventually_sync
from tests.support.kube import Body, Kube

PATIENCE = 180.0


def make_deployment(name: str, target: str, replicas: int) -> Body:
    labels = {TARGET: target, "name": name}
    pod = {"containers": [{"name": "none", "image": "none:none", "imagePullPolicy": "Never"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


@pytest.fixture
def replicas(kube: Kube) -> Iterator[Replicas]:
    """A watch that began when one Deployment of the target was there."""
    kube.create("deployments", make_deployment("a", "t", 0))
    found = Replicas(TARGET)
    watch = Watch(kube, "deployments", found.see)
    watch.begin()
    yield found
    watch.close()


def scale(kube: Kube, name: str, count: int) -> None:
    kube.patch("deployments", name, {"spec": {"replicas": count}})


def test_the_time_and_the_patches_of_a_change_are_seen_once_each(kube: Kube, replicas: Replicas) -> None:
    mark, began = replicas.mark("t"), time.monotonic()
    for count in (1, 4, 9):
        scale(kube, "a", count)
    reached = replicas.reach("t", 9, mark, PATIENCE)
    assert reached is not None
    assert began < reached[0] < time.monotonic()
    assert reached[1] == 3, "the Deployment's status changes too: that is no patch of ours"


def test_an_api_server_that_was_away_hides_neither_a_change_nor_a_deletion(
    kube: Kube, replicas: Replicas, restartable: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the server takes to come back, so that all of it happens while nobody watches.
    monkeypatch.setattr(watches, "AGAIN_SECONDS", 8.0)
    kube.create("deployments", make_deployment("b", "t", 2))
    assert replicas.reach("t", 2, 0, PATIENCE)
    restartable.restart("kube-apiserver")
    kube.delete("deployments", "b")
    scale(kube, "a", 7)
    eventually_sync(lambda: replicas.now("t") == 7, PATIENCE, "seven replicas of what is left")
