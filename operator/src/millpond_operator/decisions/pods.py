"""What the kubelet says of a worker's pod, in one small record: pure.

Owns the reading of pod statuses: whether it is ready, whether it can't start and why, and how its container ended.
"""

import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millpond_api import ANNOTATION_RESTART, LABEL_BUSY, LABEL_VERSION, UNVERSIONED
from millpond_api.supervision import pod as supervised

CONTAINER = "worker"

_STUCK = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
_HINTS = {
    "ErrImagePull": "check spec.image and the pull secrets",
    "ImagePullBackOff": "check spec.image and the pull secrets",
    "ErrImageNeverPull": "the image is not on the node and imagePullPolicy is Never",
    "InvalidImageName": "spec.image is not an image name",
    "CrashLoopBackOff": "its process ends at once: see kubectl logs",
}
_UNPLACED = {
    "Unschedulable": "no node fits the pod",
    # Somebody (Kueue, say) holds it back: it has never run, so it may go without a drain.
    "SchedulingGated": "a scheduling gate holds the pod back",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended."""

    reason: str
    exit_code: int
    at: str
    message: str = ""

    @property
    def clean(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A worker's pod. `trouble` is (reason, message) when it can't start or keeps crashing."""

    name: str
    uid: str
    node: str = ""
    phase: str = "Pending"
    ready: bool = False
    going: bool = False
    restarts: int = 0
    ended: Ended | None = None
    trouble: tuple[str, str] | None = None
    running: bool = False
    started: float = 0.0
    version: str = UNVERSIONED
    """The version of the pool's template that it was made from."""
    marked_busy: bool = False
    """It has the label that the pool's disruption budget looks for."""
    restarted: str = ""
    """The restart of its pool by which it was made."""


def read_pod(body: dict[str, Any]) -> PodFacts:
    """The facts in a pod's body."""
    status, labels = body.get("status", {}), body["metadata"].get("labels", {})
    container: dict[str, Any] = next((c for c in status.get("containerStatuses", []) if c["name"] == CONTAINER), {})
    state, last = container.get("state", {}), container.get("lastState", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    return PodFacts(
        name=body["metadata"]["name"],
        uid=body["metadata"]["uid"],
        node=sys.intern(body.get("spec", {}).get("nodeName", "")),
        phase=sys.intern(status.get("phase", "Pending")),
        ready=conditions.get("Ready", {}).get("status") == "True",
        going="deletionTimestamp" in body["metadata"],
        restarts=int(container.get("restartCount", 0)),
        ended=_ended(state, last, status),
        trouble=_trouble(state, last, status, conditions),
        running="running" in state,
        started=datetime.fromisoformat(body["metadata"]["creationTimestamp"]).timestamp(),
        version=sys.intern(labels.get(LABEL_VERSION, UNVERSIONED)),
        marked_busy=LABEL_BUSY in labels,
        restarted=sys.intern((body["metadata"].get("annotations") or {}).get(ANNOTATION_RESTART, "")),
    )


def _ended(state: dict[str, Any], last: dict[str, Any], status: dict[str, Any]) -> Ended | None:
    """How the container ended last: now, or before its restart; an evicted pod may have no container at all."""
    terminated = state.get("terminated") or last.get("terminated")
    if status.get("phase") == "Failed" and status.get("reason"):
        code = int((terminated or {}).get("exitCode", 137))
        return Ended(status["reason"], code or 137, (terminated or {}).get("finishedAt", ""), status.get("message", ""))
    if not terminated:
        return None
    code, reason = int(terminated.get("exitCode", 0)), _exit_reason(terminated)
    return Ended(reason, code, terminated.get("finishedAt") or "", _exit_text(reason, code, terminated.get("message")))


def _exit_reason(terminated: dict[str, Any]) -> str:
    """The kubelet's word, or a better one for what it only calls an error."""
    reason = terminated.get("reason") or "Error"
    named = {137: "Killed", supervised.EXIT_CODE: supervised.REASON}
    return named.get(int(terminated.get("exitCode", 0)), reason) if reason == "Error" else reason


def _exit_text(reason: str, code: int, message: str | None) -> str:
    if reason == "OOMKilled":
        return "the container used more memory than its limit and was killed: raise resources.limits.memory"
    if reason == "Killed":
        return "the container's process was killed by SIGKILL (exit code 137)"
    if reason == supervised.REASON:
        said = message or "more of its child processes crashed than spec.supervision allows; see kubectl logs"
        return f"exit code {code}: {said}"
    return message or f"the container ended with exit code {code}"


def _trouble(
    state: dict[str, Any], last: dict[str, Any], status: dict[str, Any], conditions: dict[str, Any]
) -> tuple[str, str] | None:
    waiting = state.get("waiting", {})
    reason = waiting.get("reason", "")
    if reason in _STUCK:
        said = waiting.get("message", "")
        if reason == "CrashLoopBackOff" and last.get("terminated"):
            ended = last["terminated"]
            said = f"last exit code {ended.get('exitCode')} ({_exit_reason(ended)}); {said}"
        hint = _HINTS.get(reason, "see kubectl describe pod")
        return reason, f"{said or 'the kubelet gives no message'} ({hint})"
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") in _UNPLACED:
        return scheduled["reason"], scheduled.get("message") or _UNPLACED[scheduled["reason"]]
    return None
