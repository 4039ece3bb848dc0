"""A namespace on the real node for one test: pools, tasks, and what kubectl shows of them.

Owns the small words in which system tests speak: a pool with the test app, a batch of tasks, waiting for phases. It
only looks at what a person could see (objects, Events, kubectl's output) and never into the operator. It survives an
API server that is away for a while: that is "not yet".
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import httpx
from millpond_api import API_VERSION, LABEL_POOL
from millpond_api.lifecycle import TERMINAL

from scripts.helm import merge
from tests.support.eventually import eventually_sync
from tests.support.kube import Body, Kube, Refused
from tests.support.release import APP_IMAGE

T = TypeVar("T")

PATIENCE = 150.0
"""Seconds for anything that must happen: a worker starts in 2 s here, in 30 s beside three Go builds."""
LOOK_EVERY = 0.15
"""Seconds between two looks: the API server shares two cores with what it is asked about."""
CREATORS = 4
"""Tasks created at once: with more the API server is the one that is busy."""

POOL: Body = {
    "image": APP_IMAGE,
    "imagePullPolicy": "IfNotPresent",
    "app": "app:app",
    "concurrency": 1,
    "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    "scaling": {"minWorkers": 0, "maxWorkers": 3, "idleAfter": "2s", "scaleDown": {"stabilization": "2s"}},
    "queue": {"reclaimPolicy": "Delete"},
    "retry": {"maxAttempts": 3, "backoff": {"initial": "200ms"}},
    # Short, so that a lost worker's task comes back soon.
    "timeouts": {"lease": "3s"},
    "shutdown": {"gracePeriod": "30s"},
}


@dataclass
class Stage:
    """One namespace. `figures` is what was measured here, for the end of the test run."""

    kube: Kube
    figures: list[str] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.kube.namespace

    def make_pool(self, name: str = "work", **spec: Any) -> str:
        """A pool of the test app, with `spec` on top of the tests' own values."""
        manifest = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": name}}
        self.kube.create("workerpools", {**manifest, "spec": merge(POOL, spec)})
        return name

    def submit(self, handler: str, *batch: list[Any], pool: str = "work", prefix: str = "") -> list[str]:
        """One Task object for each list of arguments; their names."""
        names = [f"{prefix or handler.replace('.', '-')}-{number}" for number in range(len(batch))]

        def create(name: str, args: list[Any]) -> None:
            manifest = {"apiVersion": API_VERSION, "kind": "Task", "metadata": {"name": name}}
            try:
                self.kube.create("tasks", {**manifest, "spec": {"pool": pool, "handler": handler, "args": args}})
            except Refused as error:
                # A create whose answer was lost is sent again by the client, and meets its own object.
                if error.status != 409:
                    raise

        with ThreadPoolExecutor(CREATORS) as executor:
            list(executor.map(create, names, batch))
        return names

    def say(self, figure: str) -> None:
        """Something measured: printed now, and again in the summary."""
        print(f"\n{figure}")
        self.figures.append(figure)

    # ---- looking

    def task(self, name: str) -> Body:
        """A task's status."""
        return status_of(self.kube.get("tasks", name))

    def tasks(self) -> dict[str, Body]:
        """The status of every task by name."""
        return {body["metadata"]["name"]: status_of(body) for body in self.kube.list("tasks")}

    def phases(self, names: Iterable[str] = ()) -> Counter[str]:
        """Tasks by phase: all, or those named."""
        wanted = set(names)
        return Counter(phase(status) for name, status in self.tasks().items() if not wanted or name in wanted)

    def workers(self) -> dict[str, Body]:
        """The status of every Worker by name."""
        return {body["metadata"]["name"]: status_of(body) for body in self.kube.list("workers")}

    def pool(self, name: str = "work") -> Body:
        """A pool's status."""
        return status_of(self.kube.get("workerpools", name))

    def pods(self, pool: str = "work") -> list[Body]:
        """The pool's worker pods that nobody deletes."""
        pods = self.kube.request("GET", self.kube.path("pods") + f"?labelSelector={LABEL_POOL}%3D{pool}")["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def replicas(self, pool: str = "work") -> int:
        """What the Deployments of all versions are asked for."""
        return sum(int(body["spec"].get("replicas", 0)) for body in self.kube.deployments(pool))

    def events(self, reason: str = "") -> list[str]:
        """The messages of the namespace's Events."""
        return [e.get("message", "") for e in self.kube.list("events") if not reason or e.get("reason") == reason]

    # ---- waiting

    def wait(self, probe: Callable[[], T | None], what: str, timeout: float = PATIENCE) -> T:
        """The first truthy value of `probe`; a server that is away is "not yet"."""
        last_look = 0.0

        def look() -> T | None:
            nonlocal last_look
            time.sleep(max(0.0, last_look + LOOK_EVERY - time.monotonic()))
            last_look = time.monotonic()
            try:
                return probe()
            except httpx.TransportError:
                return None

        found = eventually_sync(look, timeout, what)
        assert found is not None
        return found

    def wait_running(self, names: Iterable[str]) -> dict[str, str]:
        """All of them run: the worker of each."""
        wanted = list(names)

        def look() -> dict[str, str] | None:
            seen = self.tasks()
            running = {name: seen[name]["worker"] for name in wanted if phase(seen[name]) == "Running"}
            return running if len(running) == len(wanted) else None

        return self.wait(look, f"{len(wanted)} tasks running in {self.namespace}")

    def wait_ended(self, names: Iterable[str], timeout: float = PATIENCE) -> dict[str, Body]:
        """All of them have ended: their statuses."""
        wanted = set(names)

        def look() -> dict[str, Body] | None:
            seen = {name: status for name, status in self.tasks().items() if name in wanted}
            open_ones = sorted(name for name in wanted if phase(seen.get(name, {})) not in TERMINAL)
            assert not open_ones, f"{len(open_ones)} of {len(wanted)} are open, such as {seen.get(open_ones[0])}"
            return seen

        return self.wait(look, f"the end of {len(wanted)} tasks in {self.namespace}", timeout)

    def wait_ready(self, count: int, pool: str = "work") -> Body:
        """The pool has that many ready workers."""

        def look() -> Body | None:
            status = self.pool(pool)
            assert status.get("readyReplicas", 0) == count, f"{status.get('readyReplicas')} of {count} ready: {status}"
            return status

        return self.wait(look, f"{count} ready workers of {pool}")


def status_of(body: Body) -> Body:
    return body.get("status") or {}


def phase(status: Body) -> str:
    return str(status.get("phase") or "Pending")


def steps_of(status: Body) -> list[str]:
    """`Queued Running Succeeded`: a task's or a worker's transitions by name."""
    return [step.get("phase") or step.get("state") for step in status.get("transitions") or []]


def was_interrupted(task: Body) -> bool:
    """Whether a run of the task was cut off: given back, or claimed by another worker in the same attempt."""
    pairs = pairwise(steps_of(task))
    return any(before == "Running" and after in ("Running", "Queued", "Scheduled") for before, after in pairs)


def assert_untouched(tasks: dict[str, Body]) -> None:
    """Every task succeeded in its first run and nobody took it from its worker."""
    for name, status in tasks.items():
        assert phase(status) == "Succeeded", (name, status)
        assert status["attempts"] == 1, (name, status)
        assert not was_interrupted(status), (name, steps_of(status))
