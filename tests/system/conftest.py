"""The system tier's cluster: a real node by pytest-kind's fixture, our release on it, a namespace for each test.

Owns the order of setup and the cleaning up. The release and all namespaces are removed at the end; the cluster stays
when it was there before.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import release
from tests.support.kube import Kube, choose_cluster
from tests.support.stage import Stage

CLUSTER = "millpond"


def pytest_configure(config: pytest.Config) -> None:
    choose_cluster(config, CLUSTER, "node")


@pytest.fixture(scope="session")
def cluster_name(request: pytest.FixtureRequest) -> str:
    return str(request.config.option.cluster_name)


@pytest.fixture(scope="session")
def node(kind_cluster: Any, cluster_name: str) -> Kube:
    """The cluster, with the images in it and without the demo's operator."""
    kubeconfig = Path(kind_cluster.kubeconfig_path)
    release.make_images(cluster_name)
    release.remove_demo(kubeconfig)
    return Kube(kubeconfig)


@pytest.fixture(scope="session")
def system(node: Kube) -> Iterator[Kube]:
    """The cluster with our release on it."""
    release.install(node.kubeconfig)
    yield node
    release.remove_everything(node)


@pytest.fixture
def stage(system: Kube, namespace: str) -> Iterator[Stage]:
    """A namespace of its own; its deletion goes on while the next test runs."""
    system.kubectl("create", "namespace", namespace)
    yield Stage(system.within(namespace))
    system.kubectl("delete", "namespace", namespace, "--wait=false")
