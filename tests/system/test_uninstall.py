"""Uninstalling the chart while pools have work: no pod of ours stays, nothing blocks, no queue is lost by itself.

Runs on the session's release and installs it again, so that the tests after it find it.
"""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support import release
from tests.support.kube import Kube
from tests.support.stage import Stage, phase

AT_ONCE = 20.0
"""Seconds for `kubectl delete` without an operator: a finalizer that nobody removes would take for ever."""
TASKS = 40
"""60 s for one worker: longer than it takes to see the first one done and uninstall, on a slow machine too."""
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


def _is_under_way(stage: Stage) -> bool:
    phases = stage.phases()
    return phases["Succeeded"] >= 1 and phases["Running"] == 1


@pytest.mark.alone
def test_uninstall_blocks_no_deletion_and_keeps_what_waits_for_the_next_install(
    reinstalled: Kube, stage: Stage
) -> None:
    doomed = Stage(release.make_namespace(reinstalled, f"{stage.namespace}-doomed"), stage.figures)
    for one in (stage, doomed):
        one.make_pool(scaling={"maxWorkers": 1}, queue={"reclaimPolicy": "Retain"}, timeouts={"lease": "10s"})
        one.submit("sleep", *([1.5, number] for number in range(TASKS)))
        one.wait(partial(_is_under_way, one), "tasks under way")
    _uninstall(reinstalled, stage)

    began = time.monotonic()
    printed = doomed.kube.kubectl("delete", "workerpool,task", "--all", f"--timeout={AT_ONCE:.0f}s")
    assert printed.count("deleted") == TASKS + 1
    reinstalled.kubectl("delete", "namespace", doomed.namespace, "--timeout=60s")
    stage.say(f"pool, {TASKS} tasks and their namespace were deleted in {time.monotonic() - began:.1f} s")
    volumes = reinstalled.within(release.NAMESPACE).kubectl("get", "persistentvolumeclaims", "-o", "name")
    assert "persistentvolumeclaim/" in volumes, "the queue's volume stays"
    before = stage.phases()
    assert before["Succeeded"] < TASKS, "something must be left to run"

    release.install(reinstalled.kubeconfig)
    stage.kube.patch("workerpools", "work", {"spec": {"scaling": {"maxWorkers": 6}}})
    ended = stage.wait_ended(f"sleep-{number}" for number in range(TASKS))
    assert {phase(status) for status in ended.values()} == {"Succeeded"}
    assert [status["attempts"] for status in ended.values()] == [1] * TASKS
