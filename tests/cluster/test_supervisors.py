"""Trees of supervisors on a real API server: what kubectl shows after each crash is what OTP's machine says.

No node is there: the kubelet's part is played by writing pods' statuses, as it would after a container ended.
"""

import subprocess
import sys
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from millpond_api import ANNOTATION_RESET, ANNOTATION_RESTART, API_VERSION, LABEL_POOL
from millpond_api.supervision import Child, Ended, Exit, Flags
from millpond_api.supervision import Supervisor as Machine

from tests.support.eventually import eventually_sync
from tests.support.kube import Body, Refused, condition
from tests.support.works import LONG, LOOK, Works, show

ONE = {"minWorkers": 1, "maxWorkers": 1}


def supervise(works: Works, name: str, *children: Body, **spec: Any) -> Body:
    manifest = {"apiVersion": API_VERSION, "kind": "Supervisor", "metadata": {"name": name}}
    return works.kube.create("supervisors", {**manifest, "spec": {"children": list(children), **spec}})


def status_of(works: Works, name: str) -> Body:
    found: Body = works.kube.get("supervisors", name).get("status") or {}
    return found


def reaches(works: Works, name: str, state: str, **more: Any) -> Body:
    """The supervisor's status, once it is in the state and says these fields."""

    def look() -> Body | None:
        status = status_of(works, name)
        seen = {"state": status.get("state")} | {field: status.get(field) for field in more}
        assert seen == {"state": state, **more}, (seen, status.get("conditions"))
        return status

    return eventually_sync(look, LONG, f"supervisor {name} {state} {more}", LOOK) or {}


def children_of(status: Body) -> dict[str, str]:
    return {child["name"]: child["state"] for child in status["children"]}


def pod_of(works: Works, pool: str, after: Body | None = None) -> Body:
    """The pool's one pod that nobody deletes; another one than that of `after`."""

    def look() -> Body:
        pods = [
            body
            for body in works.kube.list("pods")
            if body["metadata"]["labels"].get(LABEL_POOL) == pool and "deletionTimestamp" not in body["metadata"]
        ]
        names = [pod["metadata"]["name"] for pod in pods]
        new = [pod for pod in pods if after is None or pod["metadata"]["name"] != after["metadata"]["name"]]
        assert len(new) == 1, names
        return new[0]

    return eventually_sync(look, LONG, f"the pod of {pool}", LOOK)


def tell(works: Works, pod: Body, **container: Any) -> None:
    """As the kubelet does: the container's state, and Ready while it runs."""
    ready = "running" in container.get("state", {})
    status = {"name": "worker", "image": "worker:none", "imageID": "", "ready": ready, "restartCount": 0}
    conditions = [{"type": "Ready", "status": str(ready)}]
    change = {"status": {"phase": "Running", "conditions": conditions, "containerStatuses": [status | container]}}
    works.kube.patch("pods", pod["metadata"]["name"], change, "status")


def start(works: Works, pool: str, after: Body | None = None) -> Body:
    """The pool's pod runs and is ready: a worker process in its place says so itself."""
    pod = pod_of(works, pool, after)
    works.start_worker_of_pod(pool, pod)
    name = pod["metadata"]["name"]

    def is_idle() -> bool:
        worker = works.kube.find("workers", name) or {}
        return (worker.get("status") or {}).get("state") == "Idle"

    eventually_sync(is_idle, LONG, f"worker {name} idle", LOOK)
    tell(works, pod, state={"running": {}})
    return pod


def crash(works: Works, pod: Body, number: int, reason: str = "Error", code: int = 1) -> None:
    """The `number`-th end of the pod's container, which is started again."""
    ended = {"exitCode": code, "reason": reason, "finishedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    tell(works, pod, state={"terminated": ended}, restartCount=number - 1)
    tell(works, pod, state={"running": {}}, lastState={"terminated": ended}, restartCount=number)


def say(works: Works, *words: str) -> str:
    """What the `millpond` command prints."""
    target = ("--kubeconfig", str(works.kube.kubeconfig), "--namespace", works.namespace)
    command = [sys.executable, "-m", "millpond_cli.main", *words, *target]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=True).stdout


def crash_next(works: Works, pool: str) -> None:
    """The pool's worker ends badly, once more than it has."""
    pod = pod_of(works, pool)
    (container,) = pod["status"]["containerStatuses"]
    crash(works, pod, container["restartCount"] + 1, "OOMKilled", 137)


def crashes_that_end(intensity: int) -> int:
    """How often the child of a supervisor ends until that does: by OTP's machine."""
    machine = Machine.make(Flags(intensity=intensity, period=3600), [Child("child")])
    machine.begin(0.0)
    machine.started("child", 0.0)
    for crashes in count(1):
        if any(isinstance(said, Ended) for said in machine.exited("child", Exit.ERROR, 0.0)):
            return crashes
        machine.started("child", 0.0)
    raise AssertionError


def is_paused(works: Works, pool: str, who: str) -> None:
    """Drained to zero, and the pool says whose doing it is."""
    works.scales_to(pool, 0)

    def says_who() -> bool:
        paused = condition(works.kube.get("workerpools", pool), "Paused")
        assert paused.get("reason") == "PausedBySupervisor", paused
        return f"paused by supervisor {who}: " in paused["message"]

    eventually_sync(says_who, LONG, f"{pool} saying that {who} paused it", LOOK)


def test_a_leaf_beyond_its_intensity_escalates_level_by_level_when_otp_would(works: Works, pool: str) -> None:
    """root > middle > leaf > two pools: a level ends with its second crash, so the counts are a number in base two."""
    a, b = f"{pool}-a", f"{pool}-b"
    levels = [f"{pool}-{level}" for level in ("leaf", "middle", "root")]
    leaf, middle, root = levels
    pods = {}
    for name in (a, b):
        works.make_pool(name, scaling=ONE)
        pods[name] = start(works, name)
    wanted = {"intensity": 1, "period": "2h"}
    supervise(works, leaf, {"workerPool": a}, {"workerPool": b}, **wanted)
    supervise(works, middle, {"supervisor": leaf}, **wanted)
    supervise(works, root, {"supervisor": middle}, **wanted)
    for name in levels:
        reaches(works, name, "Running", restarts=0)

    base = crashes_that_end(intensity=1)
    for crashes in range(1, base**3):
        crash_next(works, a)
        if crashes % base == 0:
            # The leaf ended, and whoever started it anew starts its pools one after the other.
            pods = {name: start(works, name, pods[name]) for name in (a, b)}
        for power, name in enumerate(levels):
            reaches(works, name, "Running", reason="", restarts=crashes // base**power % base)
        show(f"after crash {crashes} of {a}:\n{works.kube.kubectl('get', 'supervisors', *levels)}")
    crash_next(works, a)
    status = reaches(works, root, "Degraded", reason="Intensity", childrenRunning="0/1", restarts=base)
    reaches(works, middle, "Paused", reason="Intensity")
    reaches(works, leaf, "Paused", reason="Intensity", childrenRunning="0/2")
    show(f"after crash {base**3} of {a}:\n{works.kube.kubectl('get', 'supervisors', *levels)}")
    assert status["lastRestarts"][0]["child"] == f"supervisor/{middle}"
    for name in (a, b):
        is_paused(works, name, leaf)

    def is_told() -> bool:
        events = [one["message"] for one in works.kube.list("events") if one["reason"] == "SupervisorDegraded"]
        return any("2 restarts within 2h are more than intensity 1" in message for message in events)

    eventually_sync(is_told, LONG, "the Event", LOOK)

    works.kube.patch("supervisors", root, {"metadata": {"annotations": {ANNOTATION_RESET: "1"}}})
    for name in (a, b):
        start(works, name, pods[name])
    for name in levels:
        reaches(works, name, "Running", reason="", restarts=0)


def test_a_pool_that_its_supervisor_holds_gives_its_remote_worker_nothing_until_it_is_reset(
    works: Works, pool: str
) -> None:
    works.make_pool(pool, scaling=ONE)
    pod = start(works, pool)
    supervise(works, pool, {"workerPool": pool}, intensity=0, period="2h")
    reaches(works, pool, "Running", restarts=0)
    name = f"box-{pool}"
    remote = works.join_worker(pool, name)

    def is_idle() -> bool:
        return ((works.kube.find("workers", name) or {}).get("status") or {}).get("state") == "Idle"

    eventually_sync(is_idle, LONG, f"worker {name} idle", LOOK)
    crash(works, pod, 1)
    remote.await_event("leaving the pool")
    eventually_sync(lambda: f"the pool is paused: paused by supervisor {pool}" in remote.text(), LONG, "the wait", LOOK)
    works.stop_all([process for process in works.processes if process is not remote])
    works.make_task(f"{pool}-0", pool)
    works.kube.patch("supervisors", pool, {"metadata": {"annotations": {ANNOTATION_RESET: "1"}}})
    works.reaches(f"{pool}-0", "Succeeded")
    assert works.status(f"{pool}-0")["worker"] == name


def test_a_crash_is_told_with_worker_exit_code_and_reason_and_counted_once(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling=ONE)
    supervise(works, pool, {"workerPool": pool}, intensity=5)
    reaches(works, pool, "Running", restarts=0)
    pod = start(works, pool)
    crash(works, pod, 1, "OOMKilled", 137)
    status = reaches(works, pool, "Running", restarts=1)
    # The same end again, in another of the kubelet's words.
    tell(works, pod, state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=1)
    crash(works, pod, 2)
    status = reaches(works, pool, "Running", restarts=2)
    first = status["lastRestarts"][1]
    assert (first["child"], first["worker"]) == (f"workerPool/{pool}", pod["metadata"]["name"])
    assert (first["reason"], first["exitCode"]) == ("OOMKilled", 137)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"strategy": "SimpleOneForOne"}, "a WorkerPool is that already"),
        ({"strategy": "Sometimes"}, "must be OneForOne, OneForAll or RestForOne"),
        ({"children": [{"workerPool": "a", "supervisor": "b"}]}, "exactly one of workerPool and supervisor"),
        ({"children": [{}]}, "exactly one of workerPool and supervisor"),
        ({"children": [{"workerPool": "a"}, {"workerPool": "a"}]}, "named twice"),
        ({"children": [{"supervisor": "me"}]}, "can't be its own child"),
        ({"children": [{"workerPool": "a", "significant": True}]}, "never ends by itself"),
        (
            {"children": [{"workerPool": "a", "restart": "Temporary", "significant": True}]},
            "needs an autoShutdown other than Never",
        ),
        ({"children": [{"workerPool": "a", "shutdown": "soon"}]}, "must be Infinity, BrutalKill or a duration"),
        ({"children": [{"supervisor": "a", "shutdown": "5s"}]}, "leave its shutdown at Infinity"),
        ({"period": "10ms"}, "at least 1s"),
        ({"intensity": -1}, "intensity"),
    ],
)
def test_what_otp_refuses_is_refused_by_the_schema_in_a_sentence(works: Works, spec: Body, sentence: str) -> None:
    children = spec.pop("children", [{"workerPool": "a"}])
    with pytest.raises(Refused, match=sentence):
        supervise(works, "me", *children, **spec)


def test_a_leader_killed_amid_a_restart_of_siblings_leaves_it_to_the_next(own_works: Works) -> None:
    works, a, b = own_works, "first", "second"
    operator = works.start_operator()
    for name in (a, b):
        works.make_pool(name, scaling=ONE)
    pods = {name: start(works, name) for name in (a, b)}
    supervise(works, "boss", {"workerPool": a}, {"workerPool": b}, strategy="OneForAll", intensity=3, period="2h")
    reaches(works, "boss", "Running", childrenRunning="2/2")
    crash_next(works, a)
    reaches(works, "boss", "Restarting", restarts=1)

    def token() -> str:
        return str(works.kube.get("workerpools", b)["metadata"].get("annotations", {}).get(ANNOTATION_RESTART, ""))

    first = eventually_sync(token, LONG, "the restart of the sibling", LOOK)
    works.kill_leader(operator)
    works.start_operator("operator-b")
    eventually_sync(lambda: len(works.kube.deployments(b)) == 2, LONG, "the sibling's new version", LOOK)
    start(works, b, pods[b])
    status = reaches(works, "boss", "Running", restarts=1, childrenRunning="2/2")
    assert token() == first, "it was restarted once"
    decisions = works.kube.get("workerpools", b)["status"]["decisions"]
    assert [one["reason"] for one in decisions] == ["ScaleUp"], "the surge was nobody's to scale down"
    assert works.kube.get("workerpools", a)["metadata"].get("annotations") is None, "Kubernetes restarts what crashed"
    assert [entry["child"] for entry in status["lastRestarts"]] == [f"workerPool/{a}"]
    eventually_sync(lambda: len(works.kube.deployments(b)) == 1, LONG, "the new version alone", LOOK)
    (made,) = works.kube.deployments(b)
    assert made["metadata"]["annotations"][ANNOTATION_RESTART] == first


def test_a_killed_pool_is_held_at_zero_until_its_supervisor_is_deleted(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling=ONE)
    # Nobody runs in this pod: no drain is ever answered.
    tell(works, pod_of(works, pool), state={"running": {}})
    supervise(works, pool, {"workerPool": pool, "shutdown": "BrutalKill"}, intensity=0)
    reaches(works, pool, "Running")
    crash_next(works, pool)
    reaches(works, pool, "Degraded", childrenRunning="0/1")
    is_paused(works, pool, pool)
    assert f"paused by supervisor {pool}: 1 restart within 5m is more than intensity 0" in say(works, "explain", pool)
    tree = say(works, "tree", pool)
    assert "Degraded" in tree
    assert f"workerPool/{pool}: OOMKilled (worker " in tree
    works.kube.delete("supervisors", pool)
    works.scales_to(pool, 1)


def test_children_that_are_missing_or_another_s_are_told_and_come_when_they_can(works: Works, pool: str) -> None:
    supervise(works, f"{pool}-one", {"workerPool": pool})
    status = reaches(works, f"{pool}-one", "Running", reason="ChildMissing", childrenRunning="0/1")
    assert children_of(status) == {f"workerPool/{pool}": "Missing"}
    works.make_pool(pool)
    reaches(works, f"{pool}-one", "Running", reason="", childrenRunning="1/1")
    # Creation has whole seconds, and of the same second the name decides.
    supervise(works, f"{pool}-two", {"workerPool": pool})
    status = reaches(works, f"{pool}-two", "Running", reason="ChildRefused", childrenRunning="0/1")
    assert "is a child of supervisor" in status["children"][0]["message"]
    works.kube.delete("supervisors", f"{pool}-one")
    reaches(works, f"{pool}-two", "Running", reason="", childrenRunning="1/1")


def test_brutal_kill_takes_a_sibling_s_worker_that_answers_no_drain(works: Works, pool: str) -> None:
    a, b = f"{pool}-a", f"{pool}-b"
    for name in (a, b):
        works.make_pool(name, scaling=ONE)
    start(works, a)
    # Nobody runs in this pod: drained alone, it would stay for ever.
    silent = pod_of(works, b)
    tell(works, silent, state={"running": {}})
    supervise(works, pool, {"workerPool": a}, {"workerPool": b, "shutdown": "BrutalKill"}, strategy="OneForAll")
    reaches(works, pool, "Running", childrenRunning="2/2")
    crash_next(works, a)
    name = silent["metadata"]["name"]
    eventually_sync(lambda: works.kube.find("pods", name) is None, LONG, "the end of the silent worker", LOOK)
    start(works, b, silent)
    reaches(works, pool, "Running", restarts=1, childrenRunning="2/2")
