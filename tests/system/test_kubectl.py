"""What a person sees with kubectl alone: wait, get -o wide and describe answer the questions that people ask."""

from tests.support.stage import Stage, status_of


def test_wait_for_complete_returns_when_the_task_has_succeeded(stage: Stage) -> None:
    stage.make_pool()
    (name,) = stage.submit("flaky", [2])
    printed = stage.kube.kubectl("wait", "--for=condition=Complete", f"task/{name}", "--timeout=150s")
    assert "condition met" in printed
    task = stage.task(name)
    assert task["result"] == 2
    assert [step["phase"] for step in task["transitions"]][:3] == ["Queued", "Running", "Backoff"]
    assert task["attempts"] == 2


def test_get_and_describe_show_phase_worker_progress_and_reasons(stage: Stage) -> None:
    stage.make_pool(scaling={"minWorkers": 1, "maxWorkers": 1})
    (running,) = stage.submit("progress", [60, 0.5])
    (waiting,) = stage.submit("echo", [1])
    (failed,) = stage.submit("fail", ["no such customer"], prefix="failed")
    worker = stage.wait_running([running])[running]
    stage.wait_ready(1)
    stage.wait(lambda: "step" in str(status_of(stage.kube.get("workers", worker)).get("running")), "progress")
    stage.wait(lambda: stage.pool().get("inFlight") == 1, "the pool's figures")

    table = stage.kube.kubectl("get", "workerpools,tasks,workers", "-o", "wide")
    print(f"\n{table}")
    rows = {line.split()[0]: line for line in table.splitlines() if "/" in line.split(" ")[0]}
    assert "Running" in rows[f"task.millpond.dev/{running}"]
    assert worker in rows[f"task.millpond.dev/{running}"]
    assert "Queued" in rows[f"task.millpond.dev/{waiting}"]
    assert "Busy" in rows[f"worker.millpond.dev/{worker}"]
    assert "workerpool.millpond.dev/work" in rows

    told = stage.kube.kubectl("describe", "workers", worker)
    for words in ("Busy", "progress", "step", running, "Slots"):
        assert words in told, told
    told = stage.kube.kubectl("describe", "workerpool", "work")
    for words in ("Decisions", "Ready", "WorkersReady", "In Flight"):
        assert words in told, told
    told = stage.kube.kubectl("describe", "task", running)
    for words in ("Transitions", "Running", worker, "Accepted"):
        assert words in told, told

    stage.kube.patch("tasks", running, {"spec": {"cancel": True}})
    stage.wait_ended([running, waiting, failed])
    told = stage.kube.kubectl("describe", "task", failed)
    for words in ("no such customer", "NonRetryable", "Failed", "Traceback"):
        assert words in told, told
    assert stage.task(running)["phase"] == "Cancelled"


def test_a_result_too_large_for_a_status_is_named_and_stays_in_the_log(stage: Stage) -> None:
    stage.make_pool()
    (name,) = stage.submit("big", [100_000])
    status = stage.wait_ended([name])[name]
    assert status.get("result") is None
    assert "SDK" in status["message"]
