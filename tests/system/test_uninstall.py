"""Uninstalling the chart while pools have work: no pod of ours stays, nothing blocks, no queue is lost by itself.

Runs on the session's release and installs it again, so that the tests after it find it.
"""

import time
from collections.abc import Iterator

import pytest

from tests.support import release
from tests.support.kube import Kube
from tests.support.stage import Stage, phase

AT_ONCE = 20.0
"""Seconds for `kubectl delete` without an operator: a finalizer that nobody removes would take for ever."""
OURS = "app.kubernetes.io/name in (millpond,millpond-worker)"


@pytest.fixture
def reinstalled(system: Kube) -> Iterator[Kube]:
    """Whatever happens, the release is there again afterwards."""
    yield system
    release.install(system.kubeconfig)


def _uninstall(kube: Kube, stage: Stage) -> None:
    began = time.monotonic()
    assert release.uninstall(kube.kubeconfig)
    stage.say(f"helm uninstall took {time.monotonic() - began:.1f} s")
    left = kube.kubectl("get", "pods", "--all-namespaces", "-l", OURS, "-o", "name").split()
    assert not [line for line in left if line.startswith("pod/")], left


def test_uninstall_keeps_waiting_tasks_for_the_next_install(reinstalled: Kube, stage: Stage) -> None:
    stage.make_pool(scaling={"maxWorkers": 1}, queue={"reclaimPolicy": "Retain"}, timeouts={"lease": "10s"})
    names = stage.submit("sleep", *([2.0, number] for number in range(12)))
    stage.wait(lambda: stage.phases()["Succeeded"] >= 1 and stage.phases()["Running"] == 1, "tasks under way")
    _uninstall(reinstalled, stage)
    volumes = reinstalled.within(release.NAMESPACE).kubectl("get", "persistentvolumeclaims", "-o", "name")
    assert "persistentvolumeclaim/" in volumes, "the queue's volume stays"

    release.install(reinstalled.kubeconfig)
    ended = stage.wait_ended(names)
    assert {phase(status) for status in ended.values()} == {"Succeeded"}
    assert [status["attempts"] for status in ended.values()] == [1] * len(names)


def test_uninstall_leaves_no_finalizer_that_blocks(reinstalled: Kube, stage: Stage) -> None:
    stage.make_pool(scaling={"maxWorkers": 1}, timeouts={"lease": "10s"})
    names = stage.submit("sleep", *([3.0, number] for number in range(6)))
    stage.wait(lambda: stage.phases()["Running"] >= 1, "a busy worker")
    _uninstall(reinstalled, stage)
    began = time.monotonic()
    printed = stage.kube.kubectl("delete", "workerpool,task", "--all", f"--timeout={AT_ONCE:.0f}s")
    assert printed.count("deleted") == len(names) + 1
    reinstalled.kubectl("delete", "namespace", stage.namespace, "--timeout=60s")
    stage.say(f"pool, {len(names)} tasks and their namespace were deleted in {time.monotonic() - began:.1f} s")
    release.make_namespace(reinstalled, stage.namespace)
