"""The broker and the API server are killed while tasks run: everything completes and every status is right."""

import time

import pytest
from millpond_cluster.api import Cluster

from tests.support.faults import kill_process
from tests.support.kube import Kube
from tests.support.logs import assert_statuses_tell_the_logs
from tests.support.release import NAMESPACE, NATS_POD
from tests.support.stage import Stage, phase

TASKS = 96


def _run_through(stage: Stage) -> list[str]:
    """Tasks for about 12 s of eight slots, the first of them done."""
    stage.make_pool(concurrency=4, scaling={"minWorkers": 2, "maxWorkers": 2})
    stage.wait_ready(2)
    names = stage.submit("sleep", *([1.0, number] for number in range(TASKS)))
    stage.wait(lambda: stage.phases()["Succeeded"] >= 4, "the first tasks done")
    return names


def _assert_all_completed(stage: Stage, names: list[str]) -> None:
    ended = stage.wait_ended(names)
    assert {phase(status) for status in ended.values()} == {"Succeeded"}
    assert sorted(status["result"] for status in ended.values()) == list(range(TASKS))
    assert max(status["attempts"] for status in ended.values()) == 1, "an outage costs no attempt"
    assert_statuses_tell_the_logs(stage, names)
    stage.wait(lambda: stage.pool()["tasks"].get("succeeded") == TASKS, "the pool's counts")


@pytest.mark.alone
def test_nats_killed_and_moved_while_tasks_run_loses_none(stage: Stage) -> None:
    names = _run_through(stage)
    system = stage.kube.within(NAMESPACE)
    kill_process(system.get("pods", NATS_POD), "nats-server")
    before = stage.phases()["Succeeded"]
    began = time.monotonic()
    stage.wait(lambda: stage.phases()["Succeeded"] >= min(TASKS, before + 8), "tasks done after the kill")
    stage.say(f"NATS killed by SIGKILL: tasks went on, 8 more done after {time.monotonic() - began:.1f} s")

    uid = system.get("pods", NATS_POD)["metadata"]["uid"]
    system.kubectl("delete", "pod", NATS_POD, "--grace-period=1", "--wait=false")
    began = time.monotonic()
    stage.wait(lambda: _is_another_ready(system, uid), "another NATS pod on the same volume")
    stage.say(f"NATS pod deleted: another was ready after {time.monotonic() - began:.1f} s")
    _assert_all_completed(stage, names)


def _is_another_ready(system: Kube, uid: str) -> bool:
    pod = system.find("pods", NATS_POD)
    if pod is None or pod["metadata"]["uid"] == uid:
        return False
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


@pytest.mark.alone
def test_api_server_killed_while_tasks_run_leaves_every_status_right(stage: Stage, cluster_name: str) -> None:
    names = _run_through(stage)
    began = time.monotonic()
    Cluster(cluster_name).restart("kube-apiserver")
    stage.wait(stage.pool, "an answer of the API server")
    stage.say(f"the API server was killed and answered again after {time.monotonic() - began:.1f} s")
    _assert_all_completed(stage, names)
    # The operators went on or came back: a new task on a new pool is served.
    stage.make_pool("later")
    (name,) = stage.submit("echo", ["after"], pool="later")
    assert stage.wait_ended([name])[name]["result"] == "after"
