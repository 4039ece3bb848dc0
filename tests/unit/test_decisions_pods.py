"""What is read out of a pod: how it ended, why it cannot start, whether it is ready."""

from typing import Any

import pytest
from millpond_operator.decisions.pods import Ended, read_pod


def pod(container: dict[str, Any] | None = None, meta: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    if container is not None:
        status["containerStatuses"] = [{"name": "sidecar", "state": {"running": {}}}, {"name": "worker", **container}]
    metadata = {"name": "w", "uid": "u", "creationTimestamp": "2030-01-01T00:00:00Z", **(meta or {})}
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": status}


def terminated(reason: str, code: int, **more: Any) -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": code, "finishedAt": "2030-01-01T00:01:00Z", **more}}


@pytest.mark.parametrize(
    ("body", "reason", "code", "word"),
    [
        pytest.param(pod({"state": terminated("OOMKilled", 137)}), "OOMKilled", 137, "memory", id="out of memory"),
        pytest.param(pod({"state": terminated("Error", 137)}), "Killed", 137, "SIGKILL", id="killed by a signal"),
        pytest.param(pod({"state": terminated("Error", 3)}), "Error", 3, "exit code 3", id="exit code 3"),
        pytest.param(
            pod({"state": terminated("Error", 88, message="11 crashes of handler processes in 30s; the last: …")}),
            "SupervisionExceeded",
            88,
            "exit code 88: 11 crashes of handler processes in 30s; the last: …",
            id="more crashes of its processes than allowed",
        ),
        pytest.param(
            pod({"state": terminated("Error", 88)}), "SupervisionExceeded", 88, "spec.supervision", id="without a word"
        ),
        pytest.param(pod({"state": terminated("Completed", 0)}), "Completed", 0, "exit code 0", id="clean"),
        pytest.param(
            pod({"state": {"running": {}}, "lastState": terminated("OOMKilled", 137), "restartCount": 2}),
            "OOMKilled",
            137,
            "memory",
            id="restarted after out of memory",
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            "Evicted",
            137,
            "low on resource",
            id="evicted without a container",
        ),
        pytest.param(
            pod({"state": terminated("Completed", 0)}, phase="Failed", reason="NodeShutdown"),
            "NodeShutdown",
            137,
            "",
            id="node shut down: never counts as clean",
        ),
    ],
)
def test_how_it_ended(body: dict[str, Any], reason: str, code: int, word: str) -> None:
    ended = read_pod(body).ended
    assert ended is not None
    assert (ended.reason, ended.exit_code) == (reason, code)
    assert word in ended.message
    assert ended.clean == (code == 0)


@pytest.mark.parametrize(
    ("body", "reason", "word"),
    [
        pytest.param(
            pod({"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}),
            "ErrImagePull",
            "check spec.image",
            id="no such image",
        ),
        pytest.param(
            pod({"state": {"waiting": {"reason": "ErrImageNeverPull"}}}),
            "ErrImageNeverPull",
            "the kubelet gives no message",
            id="never pulled",
        ),
        pytest.param(
            pod({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": terminated("Error", 2)}),
            "CrashLoopBackOff",
            "last exit code 2",
            id="crash loop",
        ),
        pytest.param(
            pod(
                conditions=[
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
                ]
            ),
            "Unschedulable",
            "0/1 nodes",
            id="no node",
        ),
        pytest.param(
            pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
            "SchedulingGated",
            "a scheduling gate",
            id="held back by a gate",
        ),
    ],
)
def test_why_it_cannot_start(body: dict[str, Any], reason: str, word: str) -> None:
    trouble = read_pod(body).trouble
    assert trouble is not None
    assert trouble[0] == reason
    assert word in trouble[1]


def test_an_ordinary_start_is_no_trouble() -> None:
    facts = read_pod(pod({"state": {"waiting": {"reason": "ContainerCreating"}}}))
    assert (facts.trouble, facts.ended, facts.running, facts.ready) == (None, None, False, False)


def test_a_ready_pod_that_is_being_deleted_is_both() -> None:
    body = pod(
        {"state": {"running": {}}, "restartCount": 1},
        {"deletionTimestamp": "2030-01-01T00:00:09Z"},
        phase="Running",
        conditions=[{"type": "Ready", "status": "True"}],
    )
    facts = read_pod(body)
    assert (facts.ready, facts.going, facts.running, facts.restarts, facts.node) == (True, True, True, 1, "n1")


def test_a_pod_that_the_api_server_has_only_just_stored_can_be_read() -> None:
    body = {"metadata": {"name": "w", "uid": "u", "creationTimestamp": "2030-01-01T00:00:00Z"}, "spec": {}}
    facts = read_pod(body)
    assert (facts.phase, facts.node, facts.ended) == ("Pending", "", None)


def test_a_clean_end_is_clean() -> None:
    assert Ended("Completed", 0, "").clean
