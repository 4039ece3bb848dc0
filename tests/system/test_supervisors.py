"""A worker's process killed again and again on a real node: its supervisor counts, restarts siblings, and gives up."""

from millpond_api import ANNOTATION_RESET, API_VERSION

from tests.support.faults import kill_process
from tests.support.kube import Body, condition
from tests.support.stage import Stage, phase, status_of

ONE = {"minWorkers": 1, "maxWorkers": 1}


def supervisor(stage: Stage) -> Body:
    return status_of(stage.kube.get("supervisors", "boss"))


def wait_state(stage: Stage, state: str, restarts: int) -> Body:
    def look() -> Body | None:
        status = supervisor(stage)
        assert (status.get("state"), status.get("restarts")) == (state, restarts), status.get("conditions")
        return status

    return stage.wait(look, f"the supervisor {state} after {restarts} restarts")


def ready_pod(stage: Stage, pool: str) -> Body:
    stage.wait_ready(1, pool)
    return stage.wait(lambda: pods[0] if len(pods := stage.pods(pool)) == 1 else None, f"one pod of {pool}")


def wait_paused(stage: Stage, pool: str, why: str) -> None:
    stage.wait(
        lambda: why in condition(stage.kube.get("workerpools", pool), "Paused").get("message", ""), f"{pool} saying why"
    )


def test_sigkill_restarts_the_siblings_drained_and_beyond_the_intensity_pauses_all_and_loses_no_task(
    stage: Stage,
) -> None:
    for pool in ("work", "side"):
        stage.make_pool(pool, scaling=ONE)
        stage.wait_ready(1, pool)
    spec = {"strategy": "OneForAll", "intensity": 1, "period": "1h"}
    children = [{"workerPool": "work"}, {"workerPool": "side"}]
    manifest = {"apiVersion": API_VERSION, "kind": "Supervisor", "metadata": {"name": "boss"}}
    stage.kube.create("supervisors", {**manifest, "spec": spec | {"children": children}})
    wait_state(stage, "Running", 0)

    (long,) = stage.submit("sleep", [15, 7], pool="side")
    before = stage.wait_running([long])[long]
    kill_process(ready_pod(stage, "work"), "millpond.worker")
    status = wait_state(stage, "Running", 1)
    after = ready_pod(stage, "side")["metadata"]["name"]
    assert after != before, "the sibling was restarted"
    task = stage.wait_ended([long])[long]
    assert (phase(task), task["worker"], task["attempts"]) == ("Succeeded", before, 1), "and its task was left in peace"
    (entry,) = status["lastRestarts"]
    assert (entry["child"], entry["reason"], entry["exitCode"]) == ("workerPool/work", "Killed", 137)

    kill_process(ready_pod(stage, "work"), "millpond.worker")
    status = wait_state(stage, "Degraded", 2)
    stage.say(stage.kube.kubectl("get", "supervisors"))
    for pool in ("work", "side"):
        stage.wait(lambda name=pool: not stage.pods(name), f"no worker of {pool}")
        wait_paused(stage, pool, "paused by supervisor boss: 2 restarts within 1h are more than intensity 1")
    names = stage.submit("echo", ["a"], ["b"], ["c"])
    queued = stage.wait(lambda: stage.phases(names)["Queued"] == 3, "three tasks that wait")
    assert queued

    stage.kube.patch("supervisors", "boss", {"metadata": {"annotations": {ANNOTATION_RESET: "1"}}})
    ended = stage.wait_ended(names)
    assert sorted(task["result"] for task in ended.values()) == ["a", "b", "c"]
    wait_state(stage, "Running", 0)
