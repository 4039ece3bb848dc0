"""The system tier's cluster: a real node by pytest-kind's fixture, our release on it, a namespace for each test.

Owns the order of setup and the cleaning up. The release and all namespaces are removed at the end; the cluster stays
when it was there before.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import release
from tests.support.kube import Kube, choose_cluster
from tests.support.stage import Stage

CLUSTER = "millpond"
FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    choose_cluster(config, CLUSTER, "node")
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What the tests measured; pytest would show the output of failed tests only."""
    terminalreporter.section("figures")
    for figure in config.stash[FIGURES]:
        terminalreporter.line(figure)


@pytest.fixture(scope="session")
def cluster_name(request: pytest.FixtureRequest) -> str:
    return str(request.config.option.cluster_name)


@pytest.fixture(scope="session")
def node(kind_cluster: Any, cluster_name: str, pytestconfig: pytest.Config) -> Kube:
    """The cluster, with the images in it and without the demo's operator."""
    kubeconfig = Path(kind_cluster.kubeconfig_path)
    began = time.monotonic()
    release.make_images(cluster_name)
    pytestconfig.stash[FIGURES].append(f"images built and loaded in {time.monotonic() - began:.1f} s")
    release.remove_demo(kubeconfig)
    kube = Kube(kubeconfig)
    release.remove_namespaces(kube)
    return kube


@pytest.fixture(scope="session")
def system(node: Kube, pytestconfig: pytest.Config) -> Iterator[Kube]:
    """The cluster with our release on it."""
    began = time.monotonic()
    release.install(node.kubeconfig)
    pytestconfig.stash[FIGURES].append(f"the chart was installed and ready in {time.monotonic() - began:.1f} s")
    yield node
    release.remove_everything(node)


@pytest.fixture
def stage(system: Kube, namespace: str, pytestconfig: pytest.Config) -> Iterator[Stage]:
    """A namespace of its own; its deletion goes on while the next test runs."""
    yield Stage(release.make_namespace(system, namespace), pytestconfig.stash[FIGURES])
    system.kubectl("delete", "namespace", namespace, "--wait=false")
