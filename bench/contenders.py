"""The two sides of a comparison behind one face: make a target, fill or empty its queue, see its replicas, remove it.

Owns the objects of one namespace each. Both sides have the same queue, the same pods and the same publisher; what
differs is who scales. A target is ready when its scaler has seen it: nobody's first look is measured.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from millpond import Client
from millpond_api import API_VERSION, LABEL_POOL, subjects
from millpond_api.broker import QueueConfig

from bench import keda
from bench.scenarios import LAG_PER_WORKER, MOST, Scenario, Setup
from bench.watches import TARGET, Replicas, Watch
from tests.support import nats
from tests.support.eventually import eventually_sync
from tests.support.kube import Body, Kube, Refused, condition
from tests.support.release import APP_IMAGE

LOOK = 0.2
SETTLE = 180.0
"""Seconds for a target to be ready: KEDA at its default interval takes up to a minute."""
# Pods that exist and never start: what is measured ends with the patch, and twenty starting interpreters would only
# take the cores from it. A gate, not an impossible selector: a scaler may hold when pods can't be placed.
HELD: Body = {"spec": {"schedulingGates": [{"name": "bench.millpond.dev/held"}]}}


class Contender(Protocol):
    """One scaler."""

    kube: Kube
    replicas: Replicas

    def make(self, target: str, setup: Setup, scenario: Scenario) -> None:
        """The target is there with its workers and waiting tasks, and nothing of it changes any more."""

    def remove(self, target: str) -> None: ...


class Queues:
    """The queues of a namespace, filled by the SDK and emptied by a purge."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url, self.namespace = url, namespace

    def fill(self, target: str, count: int, seconds: float = 0.0) -> None:
        asyncio.run(self.publish(target, [[seconds, number] for number in range(count)]))

    async def publish(self, target: str, tasks: list[list[Any]]) -> tuple[float, list[str]]:
        """Submit tasks that sleep; the moment (monotonic) before the first, and their ids."""
        async with Client.connect(self.url, namespace=self.namespace) as client:
            began = time.monotonic()
            return began, [handle.id for handle in await client.submit_many(target, "sleep", tasks)]

    async def empty(self, target: str) -> float:
        """Purge the queue; the moment (monotonic) before it."""
        async with nats.connected(self.url) as connection:
            began = time.monotonic()
            await nats.api(connection, f"STREAM.PURGE.{subjects.pool_stream(self.namespace, target)}")
        return began

    async def pause(self, target: str) -> None:
        """Workers get nothing for an hour: what waits goes on waiting, and they stay idle."""
        until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = f"{subjects.pool_stream(self.namespace, target)}.{subjects.consumer('default')}"
        async with nats.connected(self.url) as connection:
            await nats.api(connection, f"CONSUMER.PAUSE.{name}", {"pause_until": until})

    def depth(self, target: str) -> int:
        return asyncio.run(nats.queue_depth(self.url, self.namespace, target))


def pool_spec(setup: Setup, **more: Any) -> Body:
    """A WorkerPool's spec with the defaults of everything that has to do with speed, but for the set-up's own."""
    scaling = {"minWorkers": 0, "maxWorkers": MOST, "target": {"lagPerSlot": LAG_PER_WORKER}}
    return {
        "image": APP_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "app": "app:app",
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "256Mi"}},
        "queue": {"reclaimPolicy": "Delete"},
        "scaling": scaling | setup.spec,
    } | more


class Millpond:
    """The operator that is installed, and its pools."""

    def __init__(self, kube: Kube, url: str) -> None:
        self.kube = kube
        self.queues = Queues(url, kube.namespace)
        self.replicas = Replicas(LABEL_POOL)

    def make(self, target: str, setup: Setup, scenario: Scenario) -> None:
        self.make_pool(target, pool_spec(setup, **({} if scenario.drained else {"template": HELD})))
        if scenario.drained:
            asyncio.run(self.queues.pause(target))
        if scenario.waiting:
            self.queues.fill(target, scenario.waiting)
        self._await_workers(target, scenario)

    def make_pool(self, target: str, spec: Body) -> None:
        """The pool is at zero, and the operator waits for its first task."""
        manifest = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": target}, "spec": spec}
        self.kube.create("workerpools", manifest)

        def is_at_zero() -> bool:
            ready = condition(self.kube.get("workerpools", target), "Ready")
            return ready.get("reason") == "AtZero" and self.find_template(target) is not None

        eventually_sync(is_at_zero, SETTLE, f"pool {target} at zero", LOOK)

    def _await_workers(self, target: str, scenario: Scenario) -> None:
        def are_there() -> bool:
            ready = self.kube.get("workerpools", target).get("status", {}).get("readyReplicas", 0)
            return self.replicas.now(target) == scenario.workers and (not scenario.drained or ready == scenario.workers)

        eventually_sync(are_there, SETTLE, f"{target} with {scenario.workers} workers", LOOK)

    def find_template(self, target: str) -> Body | None:
        """The pod template of the pool's newest Deployment."""
        path = f"{self.kube.path('deployments')}?labelSelector={LABEL_POOL}%3D{target}"
        found = self.kube.request("GET", path)["items"]
        newest = max(found, key=lambda body: str(body["metadata"]["creationTimestamp"]), default=None)
        return newest and dict(newest["spec"]["template"])

    def remove(self, target: str) -> None:
        self.kube.delete("workerpools", target)


class Keda:
    """KEDA and the HPA on Deployments of the same pods; `template` is a Millpond pool's."""

    def __init__(self, kube: Kube, url: str, monitor: str, template: Body) -> None:
        self.kube = kube
        self.queues = Queues(url, kube.namespace)
        self.replicas = Replicas(TARGET)
        self._monitor, self.template = monitor, template

    def make(self, target: str, setup: Setup, scenario: Scenario) -> None:
        self.make_target(target, scenario.workers)
        if scenario.waiting:
            self.queues.fill(target, scenario.waiting)
        self.scale(target, keda.make_scaled_object(self._place(target), LAG_PER_WORKER, MOST, setup.spec))
        self._await_ready(target, scenario.workers)

    def make_target(self, target: str, replicas: int) -> None:
        """Its queue, of the shape that a WorkerPool's has, and its Deployment."""
        asyncio.run(nats.ensure_pool(self.queues.url, QueueConfig(self.kube.namespace, target)))
        self.kube.create("deployments", keda.make_deployment(self._place(target), self.template, replicas))

    def scale(self, target: str, scaled_object: Body) -> None:
        self.kube.request("POST", self._path(keda.SCALED_OBJECTS, "scaledobjects"), scaled_object)

    def make_scaled_object(self, target: str, lag: int, most: int, more: Body) -> Body:
        return keda.make_scaled_object(self._place(target), lag, most, more)

    def change(self, target: str, spec: Body) -> None:
        path = self._path(keda.SCALED_OBJECTS, "scaledobjects", target)
        self.kube.request("PATCH", path, {"spec": spec}, "application/merge-patch+json")

    def _await_ready(self, target: str, workers: int) -> None:
        """The ScaledObject is Ready and its HPA there; with workers, the HPA has read the lag and leaves them be."""
        name = f"keda-hpa-{target}"

        def is_ready() -> bool:
            scaled = self.kube.request("GET", self._path(keda.SCALED_OBJECTS, "scaledobjects", target))
            hpa = self.kube.request("GET", self._path(keda.AUTOSCALERS, "horizontalpodautoscalers", name))
            seen = condition(hpa, "ScalingActive").get("status") == "True" or workers == 0
            return condition(scaled, "Ready").get("status") == "True" and seen

        def look() -> bool:
            try:
                return is_ready() and self.replicas.now(target) == workers
            except Refused as error:
                if error.status != 404:
                    raise
                return False

        eventually_sync(look, SETTLE, f"KEDA ready for {target} at {workers}", LOOK)

    def remove(self, target: str) -> None:
        """The ScaledObject first: KEDA's operator has to take its finalizer off."""
        self.kube.request("DELETE", self._path(keda.SCALED_OBJECTS, "scaledobjects", target))
        self.kube.delete("deployments", target)

    def remove_all(self) -> None:
        """Every ScaledObject of the namespace is gone, so that the namespace can go."""
        path = self._path(keda.SCALED_OBJECTS, "scaledobjects")

        def are_gone() -> bool:
            items = self.kube.request("GET", path)["items"]
            for item in items:
                self.kube.request("DELETE", f"{path}/{item['metadata']['name']}")
            return not items

        eventually_sync(are_gone, SETTLE, "the end of all ScaledObjects", LOOK)

    def _place(self, target: str) -> keda.Place:
        return keda.Place(self.kube.namespace, target, self._monitor)

    def _path(self, group: str, plural: str, name: str = "") -> str:
        return "/".join([group, "namespaces", self.kube.namespace, plural, *([name] if name else [])])


@contextmanager
def watching(contender: Contender) -> Iterator[None]:
    """The contender's Deployments are watched."""
    watch = Watch(contender.kube, "deployments", contender.replicas.see)
    watch.begin()
    try:
        yield
    finally:
        watch.close()
