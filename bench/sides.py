"""What a storm does to a side, in that side's own words: a WorkerPool's or a ScaledObject's.

Owns one pool (or Deployment) called `storm` and what is done to it. It only does what a person could do with kubectl.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from millpond_api import LABEL_POOL
from millpond_cluster.api import Cluster

from bench.contenders import Keda, Millpond, Queues, pool_spec
from bench.scenarios import KEDA_WIDE, MILLPOND
from bench.watches import TARGET
from bench.weather import Weather
from tests.support import faults, release
from tests.support.kube import Kube, Refused

STORM = "storm"
EVICTION_SECONDS = 60.0
VERSION = "BENCH_VERSION"


class Side(Protocol):
    """One scaler and its pool."""

    name: str
    kube: Kube
    queues: Queues
    selector: str

    def begin(self, weather: Weather, grace: str) -> None: ...

    def bound(self, least: int, most: int) -> None: ...

    def pin(self, workers: int) -> None: ...

    def unpin(self) -> None: ...

    def roll(self, version: str) -> None: ...

    def kill(self) -> None: ...


class MillpondSide:
    """A WorkerPool, and the operator's leader."""

    name = "Millpond"
    selector = f"{LABEL_POOL}={STORM}"

    def __init__(self, side: Millpond, node: Kube) -> None:
        self.kube, self.queues = side.kube, side.queues
        self._side, self._node = side, node

    def begin(self, weather: Weather, grace: str) -> None:
        scaling = {"minWorkers": 0, "maxWorkers": weather.most, "target": {"lagPerSlot": 1}}
        more = {"scaling": scaling, "concurrency": weather.concurrency, "shutdown": {"gracePeriod": grace}}
        self._side.make_pool(STORM, pool_spec(MILLPOND, **more))

    def bound(self, least: int, most: int) -> None:
        change = {"spec": {"scaling": {"minWorkers": least, "maxWorkers": most}}}
        self.kube.patch("workerpools", STORM, change)

    def pin(self, workers: int) -> None:
        self.kube.kubectl("scale", f"workerpool/{STORM}", f"--replicas={workers}")

    def unpin(self) -> None:
        self.kube.patch("workerpools", STORM, {"spec": {"replicas": None}})

    def roll(self, version: str) -> None:
        self.kube.patch("workerpools", STORM, {"spec": {"env": [{"name": VERSION, "value": version}]}})

    def kill(self) -> None:
        leader = release.pod_of(release.read_leader(self._node))
        faults.delete_by_force(self._node.within(release.NAMESPACE), leader)


class KedaSide:
    """A Deployment of the same pods, its ScaledObject, and KEDA's operator."""

    name = "KEDA + HPA"
    selector = f"{TARGET}={STORM}"

    def __init__(self, side: Keda, pattern: Millpond, cluster: Cluster) -> None:
        self.kube, self.queues = side.kube, side.queues
        self._side, self._pattern, self._cluster = side, pattern, cluster

    def begin(self, weather: Weather, grace: str) -> None:
        """After Millpond's pool is there: its pods, with that grace period in them, are copied."""
        template = self._pattern.find_template(STORM)
        assert template is not None, "KEDA's side copies the pods of Millpond's: begin that one first"
        self._side.template = template
        self._side.make_target(STORM, replicas=0)
        scaled = self._side.make_scaled_object(STORM, weather.concurrency, weather.most, KEDA_WIDE.spec)
        self._side.scale(STORM, scaled)

    def bound(self, least: int, most: int) -> None:
        self._side.change(STORM, {"minReplicaCount": least, "maxReplicaCount": most})

    def pin(self, workers: int) -> None:
        self.kube.kubectl("scale", f"deployment/{STORM}", f"--replicas={workers}")

    def unpin(self) -> None:
        """Nothing to do: the HPA has overridden it by now."""

    def roll(self, version: str) -> None:
        self.kube.kubectl("set", "env", f"deployment/{STORM}", f"{VERSION}={version}")

    def kill(self) -> None:
        self._cluster.restart("keda-operator")


def evict_all(side: Side) -> list[str]:
    """Every pod of the side is asked to go, as `kubectl drain` does; the pods that would not within the time."""
    path = f"{side.kube.path('pods')}?labelSelector={side.selector.replace('=', '%3D')}"
    names = [pod["metadata"]["name"] for pod in side.kube.request("GET", path)["items"]]
    with ThreadPoolExecutor(max(1, len(names))) as executor:
        return [
            name for name, gone in zip(names, executor.map(lambda n: _evict(side, n), names), strict=True) if not gone
        ]


def _evict(side: Side, pod: str) -> bool:
    try:
        faults.evict(side.kube, pod, EVICTION_SECONDS)
    except Refused as error:
        return error.status == 404
    return True


def cordon(node: Kube, closed: bool) -> None:
    """Every node of the cluster takes no new pods, or takes them again."""
    for name in _node_names(node):
        change = {"spec": {"unschedulable": closed}}
        node.request("PATCH", f"/api/v1/nodes/{name}", change, "application/strategic-merge-patch+json")


def _node_names(node: Kube) -> Iterable[str]:
    return [item["metadata"]["name"] for item in node.request("GET", "/api/v1/nodes")["items"]]
