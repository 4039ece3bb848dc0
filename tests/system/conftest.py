"""The system tier's cluster: a real node by pytest-kind's fixture, our release on it, a namespace for each test.

Owns the order of setup and the cleaning up. The release and all namespaces are removed at the end; the cluster stays
when it was there before. Tests run side by side (pytest-xdist), each worker in a process of its own: the first of them
sets up, the others wait for it. A test that stops something shared, or measures, is marked `alone`.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from millpond_cluster.api import Cluster

from tests.support import release
from tests.support.kube import MORE_TO_COME, NOTES, Kube, choose_cluster, is_running
from tests.support.stage import Stage

CLUSTER = "millpond"
FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: it stops something that all share, or measures")
    choose_cluster(config, CLUSTER, "node")
    config.stash[FIGURES] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist hands its figures to the process that prints; who runs last leaves nothing of an earlier pass.

    (The fixtures do that too, where any of its tests were chosen.)
    """
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["figures"] = config.stash[FIGURES]
    elif os.environ.get(NOTES) and not os.environ.get(MORE_TO_COME) and is_running(config.option.cluster_name):
        release.remove_everything(Kube(Path(config.option.kubeconfig)))
        if not config.option.keep_cluster:
            Cluster(config.option.cluster_name).down()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[FIGURES] += getattr(node, "workeroutput", {}).get("figures", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What the tests measured; pytest would show the output of failed tests only."""
    terminalreporter.section("figures")
    for figure in config.stash[FIGURES]:
        terminalreporter.line(figure)


@pytest.fixture(scope="session")
def cluster_name(request: pytest.FixtureRequest) -> str:
    return str(request.config.option.cluster_name)


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest, cluster_name: str, tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """The cluster, with the images in it and without the demo's operator."""
    figures: list[str] = request.config.stash[FIGURES]
    with first_of_all(tmp_path_factory, "node") as first:
        kubeconfig = Path(request.getfixturevalue("kind_cluster").kubeconfig_path)
        kube = Kube(kubeconfig)
        if first:
            began = time.monotonic()
            release.make_images(cluster_name)
            figures.append(f"images built and loaded in {time.monotonic() - began:.1f} s")
            release.remove_demo(kubeconfig)
            release.remove_namespaces(kube)
    return kube


@pytest.fixture(scope="session")
def system(node: Kube, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    """The cluster with our release on it."""
    with first_of_all(tmp_path_factory, "release") as first:
        if first:
            began = time.monotonic()
            release.install(node.kubeconfig)
            figure = f"the chart was installed and ready in {time.monotonic() - began:.1f} s"
            pytestconfig.stash[FIGURES].append(figure)
    yield node
    # Beside others, or before another pass, it is still needed: who runs last removes it.
    if not os.environ.get("PYTEST_XDIST_WORKER") and not os.environ.get(MORE_TO_COME):
        release.remove_everything(node)


@contextmanager
def first_of_all(factory: pytest.TempPathFactory, what: str) -> Iterator[bool]:
    """One process after the other; whether this is the first of those that xdist started together."""
    folder = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    with (folder / f"{what}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = folder / f"{what}.done"
        yield not done.exists()
        done.touch()


@pytest.fixture
def stage(system: Kube, namespace: str, pytestconfig: pytest.Config) -> Iterator[Stage]:
    """A namespace of its own; its deletion goes on while the next test runs."""
    yield Stage(release.make_namespace(system, namespace), pytestconfig.stash[FIGURES])
    system.kubectl("delete", "namespace", namespace, "--wait=false")
