"""Millpond on the host: operator and worker processes beside a real API server and a real nats-server.

Owns the processes of one namespace (started, hurt, ended exactly) and the words of the cluster tests: make a pool, make
a task, wait for its phase. No node is needed: the operator makes Deployments whose pods stay Pending, and workers run
as processes. It must not be imported by anything that ships.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from millpond_api import API_VERSION, LABEL_POOL
from millpond_api.lifecycle import TERMINAL

from tests.support.eventually import eventually_sync
from tests.support.gate import Gate
from tests.support.kube import Body, Kube
from tests.support.nats import NatsServer

ROOT = Path(__file__).parents[2]
START = 90.0
"""Seconds for a process to start and be ready: three on an idle machine, many on a shared one."""
LONG = 120.0
LOOK = 0.1
"""Seconds between two looks at the API server: a look costs it and us about five milliseconds."""
LEASE, LEASE_SECONDS = "millpond-operator", 40
"""The operators' Lease: one that cannot renew it in time exits, and a restart of the API server takes half a minute on
a busy machine. Nobody waits for its end: see `kill_leader`."""

GATED = {"spec": {"schedulingGates": [{"name": "millpond.dev/no-node-here"}]}}
"""Pods that wait for nobody's decision: without it the scheduler calls them unschedulable, and a pool stops growing."""


@dataclass
class Process:
    """A process of ours with its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def ended(self, timeout: float = START) -> int:
        """The exit code, once it has ended."""
        eventually_sync(lambda: self.popen.poll() is not None, timeout, f"the end of {self.name}", LOOK)
        return int(self.popen.returncode)

    def kill9(self) -> None:
        self.popen.kill()
        self.popen.wait(timeout=START)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL for one that does not mind it."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout=START)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, event: str) -> bool:
        """Whether a line of its JSON log tells this event; one that has ended says nothing more."""
        ended = self.popen.poll() is not None
        said = any(_event(line).startswith(event) for line in self.text().splitlines())
        if not said and ended:
            raise RuntimeError(f"{self.name} ended with {self.popen.returncode}:\n{self.text()[-4000:]}")
        return said

    def await_event(self, event: str, timeout: float = START) -> None:
        eventually_sync(lambda: self.says(event), timeout, f"{self.name} saying {event!r} ({self.log})", LOOK)


@dataclass
class Works:
    """One namespace, its NATS, and the operators and workers that a test starts there."""

    kube: Kube
    server: NatsServer
    directory: Path
    processes: list[Process] = field(default_factory=list)
    own_sessions: bool = False
    """Each process in a session of its own: the kernel then shares the CPU among them as it does among pods."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of all of them."""

    @property
    def namespace(self) -> str:
        return self.kube.namespace

    # ---- processes

    def spawn_operator(self, name: str = "operator-a", **settings: Any) -> Process:
        """Start an operator for this namespace; settings are MILLPOND_ variables in lower case."""
        known: dict[str, Any] = {
            "kubeconfig": self.kube.kubeconfig,
            "nats_url": self.server.url,
            "watch_namespace": self.namespace,
            "lease_seconds": LEASE_SECONDS,
            "http_port": 0,
        }
        plain = {"POD_NAME": name, "POD_NAMESPACE": self.namespace}
        return self.spawn(name, "millpond_operator.main", self.directory, plain | make_environment(known | settings))

    def start_operator(self, name: str = "operator-a", **settings: Any) -> Process:
        """Start an operator and wait until it leads and knows what there is."""
        operator = self.spawn_operator(name, **settings)
        operator.await_event("listed")
        return operator

    def kill_leader(self, operator: Process) -> None:
        """SIGKILL; its Lease ends a second later, so that the next one need not wait for all of it."""
        operator.kill9()
        self.kube.patch("leases", LEASE, {"spec": {"leaseDurationSeconds": 1}})

    def start_worker(self, pool: str, name: str = "w1", **settings: Any) -> Process:
        """Start a worker of the pool; it waits by itself until its queue is there."""
        known: dict[str, Any] = {
            "nats_url": self.server.url,
            "namespace": self.namespace,
            "pool": pool,
            "app": "tests.support.worker_app:app",
            "worker": name,
            "lease": 2,
            "http_port": 0,
        }
        return self.spawn(f"{pool}-{name}", "millpond.worker", ROOT, make_environment(known | settings))

    def join_worker(self, pool: str, name: str, *words: str) -> Process:
        """`millpond-worker join` on this host: an address, the pool, a name, and nothing else of the pool."""
        where = ["--url", self.server.url, "--namespace", self.namespace, "--pool", pool, "--name", name]
        return self.spawn(f"join-{name}", "millpond.worker", ROOT, {}, ["join", *where, *words])

    def start_worker_of_pod(self, pool: str, pod: Body | None = None, **settings: Any) -> Process:
        """A worker in the place of a pod that no node runs (the pool's only one, if none is given): its name, and what
        the operator tells it."""

        def look() -> Body:
            pods = [body for body in self.kube.list("pods") if body["metadata"]["labels"].get(LABEL_POOL) == pool]
            assert len(pods) == 1, pods
            return pods[0]

        pod = pod or eventually_sync(look, LONG, f"the pod of {pool}", LOOK)
        container = next(one for one in pod["spec"]["containers"] if one["name"] == "worker")
        told = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        name = pod["metadata"]["name"]
        ours = make_environment({"worker": name, "http_port": 0} | settings)
        return self.spawn(name, "millpond.worker", ROOT, told | ours)

    def spawn(
        self, name: str, module: str, cwd: Path, environment: dict[str, str], words: Iterable[str] = ()
    ) -> Process:
        """`python -m module words…` with its log in the directory; it ends with the others."""
        log = self.directory / f"{name}-{len(self.processes)}.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", module, *words]
            popen = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **self.environment, **environment},
                stdout=out,
                stderr=out,
                start_new_session=self.own_sessions,
            )
        process = Process(name, popen, log)
        self.processes.append(process)
        return process

    def stop_all(self, processes: Iterable[Process] | None = None) -> None:
        """End what was started here."""
        for process in list(self.processes if processes is None else processes):
            if process.popen.poll() is None:
                process.kill9()
            if process in self.processes:
                self.processes.remove(process)

    # ---- objects

    def make_pool(self, name: str, **spec: Any) -> Body:
        """A pool; without `scaling` it has no pods, and the test's own worker processes serve it."""
        return self.kube.create("workerpools", pool_manifest(name, **spec))

    def make_task(self, name: str, pool: str, handler: str = "echo", args: Any = (), **spec: Any) -> Body:
        return self.kube.create("tasks", task_manifest(name, pool, handler, args, **spec))

    def task(self, name: str) -> Body:
        return self.kube.get("tasks", name)

    def status(self, name: str) -> Body:
        found: Body = self.task(name).get("status") or {}
        return found

    def reaches(self, name: str, *phases: str, reason: str | None = None, timeout: float = LONG) -> Body:
        """The task's status once it is in one of the phases (and says this reason)."""

        def look() -> Body | None:
            status = self.status(name)
            assert status.get("phase") in phases, summary(status)
            assert reason is None or status.get("reason") == reason, summary(status)
            return status

        return eventually_sync(look, timeout, f"task {name} {'/'.join(phases)} {reason or ''}", LOOK) or {}

    def all_reach(self, phase: str, pool: str, count: int, timeout: float = LONG * 2) -> list[Body]:
        """The pool's tasks, once all of them are in the phase."""

        def look() -> list[Body]:
            tasks = self.tasks_of(pool)
            phases = [(task.get("status") or {}).get("phase", "") for task in tasks]
            tally = {one: phases.count(one) for one in sorted(set(phases))}
            assert phases.count(phase) == count == len(tasks), tally
            return tasks

        return eventually_sync(look, timeout, f"{count} tasks of {pool} {phase}", 0.3)

    def tasks_of(self, pool: str) -> list[Body]:
        return [task for task in self.kube.list("tasks") if task["spec"]["pool"] == pool]

    def deployment_replicas(self, pool: str) -> int | None:
        """What the Deployments of all versions are asked for; None when there is none."""
        found = self.kube.deployments(pool)
        return sum(int(body["spec"].get("replicas", 0)) for body in found) if found else None

    def scales_to(self, pool: str, replicas: int, timeout: float = LONG) -> None:
        eventually_sync(
            lambda: self.deployment_replicas(pool) == replicas, timeout, f"{pool} at {replicas} replicas", 0.05
        )

    def pool_is_ready(self, pool: str) -> Body:
        """The pool, once its queue and its Deployment are there and its status says so."""

        def look() -> Body | None:
            body = self.kube.get("workerpools", pool)
            conditions = (body.get("status") or {}).get("conditions") or []
            ready = {one["type"]: one for one in conditions}.get("Ready", {})
            assert ready.get("reason") not in (None, "QueueMissing"), ready
            return body if self.deployment_replicas(pool) is not None else None

        return eventually_sync(look, LONG, f"pool {pool} with a queue and a Deployment", LOOK) or {}

    def gate(self, name: str) -> Gate:
        return Gate.make(self.directory / name)


def pool_manifest(name: str, **spec: Any) -> Body:
    wanted = {
        "image": "worker:none",
        "imagePullPolicy": "Never",
        "app": "tests.support.worker_app:app",
        "scaling": {"maxWorkers": 0},
        "timeouts": {"lease": "2s"},
        "template": GATED,
    }
    return {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": name}, "spec": wanted | spec}


def task_manifest(name: str, pool: str, handler: str = "echo", args: Any = (), **spec: Any) -> Body:
    wanted = {"pool": pool, "handler": handler, "args": list(args)} | spec
    return {"apiVersion": API_VERSION, "kind": "Task", "metadata": {"name": name}, "spec": wanted}


def make_environment(settings: dict[str, Any]) -> dict[str, str]:
    return {f"MILLPOND_{key.upper()}": str(value) for key, value in settings.items()}


def summary(status: Body) -> str:
    """What a failed wait shows of a task."""
    keys = ("phase", "reason", "message", "attempts", "worker", "observedSequence")
    return ", ".join(f"{key}={status.get(key)!r}" for key in keys if key in status) or "no status"


HELD = ("HandlerMissing", "Waiting")
"""Conditions that only a task has which was held back."""


def stale(tasks: Iterable[Body]) -> list[str]:
    """What an ended task's status should say and does not."""
    found = []
    for task in tasks:
        status, name = task.get("status") or {}, task["metadata"]["name"]
        conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
        phase = status.get("phase")
        last = (status.get("transitions") or [{}])[-1].get("phase")
        expected = {"Complete": str(phase == "Succeeded"), "Failed": str(phase != "Succeeded"), "Accepted": "True"}
        # What once held a task back says that it does no more.
        said = {kind: value for kind, value in conditions.items() if kind not in HELD or value != "False"}
        if phase not in TERMINAL or last != phase or said != expected or not status.get("finishedAt"):
            found.append(f"{name}: {phase}, last step {last}, {conditions}, finished {status.get('finishedAt')}")
    return found


def moment(seconds: float) -> str:
    """A time so many seconds from now, as a manifest has it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


FIGURES: list[str] = []
"""What was measured: printed at the end of the run (the tier's conftest does)."""


def show(text: str) -> None:
    """Note a figure for the person who reads the run."""
    FIGURES.append(text)


def lose_data(server: NatsServer) -> None:
    """NATS comes back at the same address with nothing in it."""
    server.kill9()
    shutil.rmtree(server.directory / "data")
    server.start()


def _event(line: str) -> str:
    try:
        return str(json.loads(line).get("event", ""))
    except (ValueError, AttributeError):
        return ""
