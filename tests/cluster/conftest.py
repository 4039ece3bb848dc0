"""A real API server for the tier, and Millpond's processes on the host: shared where a test hurts nobody."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from millpond_cluster.api import Cluster

from scripts.helm import render
from tests.support.eventually import eventually_sync
from tests.support.kube import ROOT, Kube, Refused, choose_cluster
from tests.support.nats import NatsServer
from tests.support.works import FIGURES, Works, task_manifest

NAME, PROFILE = "millpond-test", "control-plane"
KINDS = ("workerpools", "poolgroups", "supervisors", "tasks", "workers")


def pytest_configure(config: pytest.Config) -> None:
    choose_cluster(config, NAME, PROFILE)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for figure in FIGURES:
        terminalreporter.write_line(f"measured: {figure}")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Any:
    """pytest-kind's cluster; what its start prints is shown, since a first one builds for minutes."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return request.getfixturevalue("kind_cluster")


@pytest.fixture(scope="session")
def restartable(cluster: Any) -> Cluster:
    """The tool that can kill the cluster's components."""
    return Cluster(cluster.name)


@pytest.fixture(scope="session")
def installed(cluster: Any) -> Kube:
    """The cluster with Millpond's kinds and the chart's admission policy in force."""
    kube = Kube(Path(cluster.kubeconfig_path))
    kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    for plural in KINDS:
        kube.kubectl("wait", "--for=condition=Established", f"crd/{plural}.millpond.dev", "--timeout=60s")
    policies = [item for item in render({}) if item["kind"].startswith("ValidatingAdmissionPolicy")]
    kube.apply(*policies)
    kube.apply(task_manifest("probe", "nowhere", args=[1]))

    def is_enforced() -> bool:
        # The API server takes a policy up some time after it was stored: each try is another change.
        try:
            kube.patch("tasks", "probe", {"spec": {"args": [time.monotonic()]}})
        except Refused:
            return True
        return False

    eventually_sync(is_enforced, 60, "the admission policy in force", 0.2)
    kube.delete("tasks", "probe")
    return kube


@pytest.fixture
def kube(installed: Kube, namespace: str) -> Iterator[Kube]:
    """A namespace of the test's own."""
    yield from make_namespace(installed, namespace)


def make_namespace(kube: Kube, name: str) -> Iterator[Kube]:
    kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield kube.within(name)
    kube.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def shared_works(installed: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """A namespace with a running operator and a nats-server, for tests that hurt neither."""
    directory = tmp_path_factory.mktemp("shared")
    server = NatsServer(directory / "nats").start()
    for kube in make_namespace(installed, f"shared-{server.port}"):
        works = Works(kube, server, directory)
        try:
            start_shared_operator(works)
            yield works
        finally:
            works.stop_all()
            server.remove()


def start_shared_operator(works: Works) -> None:
    """Start it, or start it again as its Deployment would: one test in which it ended must not fail all later ones."""
    if all(one.popen.poll() is not None for one in works.processes if one.name.startswith("operator")):
        works.start_operator(resync_seconds=5)


@pytest.fixture
def works(shared_works: Works, tmp_path: Path) -> Iterator[Works]:
    """The shared namespace, with processes and files of the test's own. Take pools of names that no other test has."""
    start_shared_operator(shared_works)
    mine = Works(shared_works.kube, shared_works.server, tmp_path)
    yield mine
    mine.stop_all()


@pytest.fixture
def pool(namespace: str) -> str:
    """A pool's name that no other test has."""
    return f"pool-{namespace}"


@pytest.fixture
def own_works(kube: Kube, tmp_path: Path) -> Iterator[Works]:
    """A namespace and a nats-server of the test's own, and no operator yet."""
    server = NatsServer(tmp_path / "nats").start()
    works = Works(kube, server, tmp_path)
    yield works
    works.stop_all()
    server.remove()
