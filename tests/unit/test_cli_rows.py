"""Objects as the API server holds them become rows, also when the operator has not written a status yet."""

from datetime import UTC, datetime
from typing import Any

from millpond_cli.rows import doing, pick, pool_row, task_row, worker_row

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make(kind: str, name: str, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> Any:
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": "2026-01-02T03:03:05Z"}
    item: dict[str, Any] = {"kind": kind, "metadata": metadata, "spec": spec or {}}
    return item | ({"status": status} if status is not None else {})


def test_objects_without_status_have_rows() -> None:
    assert pool_row(make("WorkerPool", "census")).cells[:2] == ("census", "0/0")
    assert task_row(make("Task", "t"), NOW).state == "Pending"
    assert worker_row(make("Worker", "w"), NOW).state == "Starting"


def test_pool_row_shows_the_newest_decision_and_degradation_before_readiness() -> None:
    status = {
        "readyReplicas": 2, "desired": 4, "lag": 40, "waiting": 36, "inFlight": 4, "mode": "Auto",
        "workers": {"busy": 2},
        "decisions": [{"message": "newest"}, {"message": "older"}],
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "NotReady"},
            {"type": "Degraded", "status": "True", "reason": "ImagePullBackOff"},
        ],
    }  # fmt: skip
    cells = pool_row(make("WorkerPool", "census", status=status)).cells
    assert cells == ("census", "2/4", "2", "40", "36", "4", "Auto", "Degraded: ImagePullBackOff", "newest")


def test_worker_row_tells_task_handler_age_attempt_and_progress() -> None:
    running = {"task": "parse-a", "handler": "h", "attempt": 2, "since": "2026-01-02T03:04:00.250Z", "progress": "40%"}
    assert doing({"state": "Busy", "running": [running]}, NOW) == "parse-a (h, 5s, attempt 2): 40%"


def test_ended_worker_tells_why() -> None:
    status = {"state": "Failed", "reason": "OOMKilled", "message": "used more than 384Mi"}
    assert (
        worker_row(make("Worker", "w", {"pool": "census"}, status), NOW).cells[-1] == "OOMKilled: used more than 384Mi"
    )


def test_filters_take_pool_and_phase_in_any_case() -> None:
    tasks = [
        make("Task", "a", {"pool": "x"}, {"phase": "Failed"}),
        make("Task", "b", {"pool": "y"}, {"phase": "Failed"}),
        make("Task", "c", {"pool": "x"}),
    ]
    assert [t["metadata"]["name"] for t in pick(tasks, pool="x", phase="failed")] == ["a"]
    assert [t["metadata"]["name"] for t in pick(tasks, phase="Pending")] == ["c"]
    assert [p["metadata"]["name"] for p in pick([make("WorkerPool", "x"), make("WorkerPool", "y")], pool="y")] == ["y"]
