"""Workers that are asked to go while they are busy: what they run is finished, nothing is taken from them or lost."""

from tests.support.faults import evict
from tests.support.stage import Stage, assert_untouched, steps_of

SECONDS = 5.0
CALM = {"lease": "10s"}
"""No worker dies here: a short lease would only let a slow machine look like a lost worker."""


def _busy_pool(stage: Stage, workers: int) -> list[str]:
    """That many ready workers, each with a task, and another task waiting; the names of all tasks."""
    stage.make_pool(scaling={"minWorkers": workers, "maxWorkers": workers}, timeouts=CALM)
    stage.wait_ready(workers)
    handlers = ("sleep", "sleep.sync")
    names = [stage.submit(handlers[n % 2], [SECONDS, n], prefix=f"task-{n}")[0] for n in range(workers + 1)]
    stage.wait(lambda: stage.phases()["Running"] >= workers, f"{workers} busy workers")
    return names


def _assert_gone_well(stage: Stage, names: list[str]) -> None:
    assert_untouched(stage.wait_ended(names))
    for name, worker in stage.workers().items():
        assert "Failed" not in steps_of(worker), (name, worker)
        assert "Lost" not in steps_of(worker), (name, worker)


def test_fewer_max_workers_while_busy_interrupts_no_task(stage: Stage) -> None:
    names = _busy_pool(stage, 3)
    stage.kube.patch("workerpools", "work", {"spec": {"scaling": {"minWorkers": 1, "maxWorkers": 1}}})
    stage.wait(lambda: stage.replicas() == 1, "one worker left")
    _assert_gone_well(stage, names)
    reasons = {decision["reason"] for decision in stage.pool()["decisions"]}
    assert "ScaleDown" in reasons


def test_kubectl_scale_to_one_while_busy_interrupts_no_task(stage: Stage) -> None:
    names = _busy_pool(stage, 3)
    stage.kube.kubectl("scale", "workerpool/work", "--replicas=1")
    stage.wait(lambda: stage.replicas() == 1 and len(stage.pods()) == 1, "one worker left")
    _assert_gone_well(stage, names)
    assert stage.pool()["mode"] == "Manual"


def test_eviction_of_a_busy_worker_lets_its_task_finish(stage: Stage) -> None:
    names = _busy_pool(stage, 2)
    runs = {name: status["worker"] for name, status in stage.tasks().items() if status.get("phase") == "Running"}
    name, worker = next(iter(runs.items()))
    evict(stage.kube, worker)
    _assert_gone_well(stage, names)
    assert stage.task(name)["worker"] == worker, "it finished where it ran"
    stage.wait(lambda: stage.workers()[worker]["state"] == "Stopped", "the evicted worker Stopped")
    assert "Draining" in steps_of(stage.workers()[worker])


def test_grace_period_shorter_than_the_task_gives_it_back_with_the_attempt_refunded(stage: Stage) -> None:
    stage.make_pool(scaling={"minWorkers": 2}, timeouts=CALM, shutdown={"gracePeriod": "1s"})
    stage.wait_ready(2)
    (name,) = stage.submit("sleep", [6.0, 1])
    worker = stage.wait_running([name])[name]
    # As kubectl delete pod does it: an eviction would wait for a busy worker.
    stage.kube.delete("pods", worker)
    task = stage.wait_ended([name])[name]
    assert steps_of(task) == ["Queued", "Running", "Queued", "Running", "Succeeded"]
    assert task["attempts"] == 1
    assert task["worker"] != worker


def test_rollout_of_a_changed_pool_while_tasks_run_interrupts_and_loses_none(stage: Stage) -> None:
    stage.make_pool(
        scaling={"minWorkers": 2, "maxWorkers": 2}, timeouts=CALM, env=[{"name": "COLOUR", "value": "blue"}]
    )
    stage.wait_ready(2)
    old = {pod["metadata"]["name"] for pod in stage.pods()}
    names = stage.submit("environment", *(["COLOUR", 3.0] for _ in range(20)))
    stage.wait(lambda: stage.phases()["Running"] == 2, "two busy workers")
    stage.kube.patch("workerpools", "work", {"spec": {"env": [{"name": "COLOUR", "value": "green"}]}})
    tasks = stage.wait_ended(names)
    assert_untouched(tasks)
    colours = [tasks[name]["result"] for name in names]
    assert {"blue", "green"} == set(colours), "old workers finished what they ran, new ones did the rest"
    stage.wait(lambda: not old & {pod["metadata"]["name"] for pod in stage.pods()}, "the old workers gone")
    stage.wait_ready(2)
