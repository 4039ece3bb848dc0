"""The ground that both sides stand on: one cluster, one NATS, the release, KEDA beside it, a namespace for each.

Owns setting that up and taking it down again, whatever happened in between, and the facts of the machine that stand
beside every figure. The demo's release has to go meanwhile (`make demo` brings it back).
"""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from millpond_cluster.api import Cluster
from millpond_cluster.build.builder import has_docker_engine
from millpond_cluster.build.golang import KEDA_VERSION
from millpond_cluster.paths import package_root
from pydantic import BaseModel

from bench.contenders import HELD, Keda, Millpond, pool_spec, watching
from bench.scenarios import MILLPOND
from tests.support import release
from tests.support.kube import Body, Kube
from tests.support.logs import forward_nats

MONITOR = "bench-nats-monitor"
MONITOR_PORT = 8222
PATTERN = "pattern"
"""The pool whose pod template KEDA's Deployments copy."""


class Facts(BaseModel):
    """What a figure depends on."""

    command: str
    at: datetime
    commit: str
    machine: str
    load: tuple[float, float]
    """Load averages of one minute, when the run began and when it ended."""
    kubernetes: str
    keda: str
    seconds: float = 0.0
    note: str = ""
    """What a person found out about the run afterwards; written by hand into the result."""


@dataclass
class Ground:
    """Both sides, ready."""

    node: Kube
    cluster: Cluster
    millpond: Millpond
    keda: Keda


@contextmanager
def prepared(name: str) -> Iterator[Ground]:
    """The release and KEDA on the cluster of that name, with a namespace for each side; all of it goes at the end."""
    cluster = Cluster(name)
    node = Kube(cluster.kubeconfig)
    if not has_docker_engine():
        cluster.start_keda()
    release.make_images(name)
    release.remove_demo(node.kubeconfig)
    release.remove_namespaces(node)
    try:
        release.install(node.kubeconfig)
        with forward_nats(node) as url, _sides(node, cluster, url) as ground:
            yield ground
    finally:
        release.remove_everything(node)
        if not has_docker_engine():
            cluster.stop_keda()


@contextmanager
def _sides(node: Kube, cluster: Cluster, url: str) -> Iterator[Ground]:
    spaces = {side: release.make_namespace(node, f"bench-{side}-{os.getpid()}") for side in ("millpond", "keda")}
    millpond = Millpond(spaces["millpond"], url)
    with watching(millpond):
        millpond.make_pool(PATTERN, pool_spec(MILLPOND, template=HELD))
        template = millpond.find_template(PATTERN)
        assert template is not None
        keda = Keda(spaces["keda"], url, _expose_monitor(node.within(release.NAMESPACE)), template)
        with watching(keda):
            try:
                yield Ground(node, cluster, millpond, keda)
            finally:
                keda.remove_all()


def _expose_monitor(kube: Kube) -> str:
    """NATS' monitoring endpoint under an address that outlives its pod: host:port."""
    path = f"/api/v1/namespaces/{kube.namespace}/services"
    selector = kube.request("GET", f"{path}/{release.NATS_SERVICE}")["spec"]["selector"]
    service: Body = {
        "metadata": {"name": MONITOR},
        "spec": {"selector": selector, "ports": [{"port": MONITOR_PORT, "targetPort": MONITOR_PORT}]},
    }
    address = kube.request("POST", path, service)["spec"]["clusterIP"]
    return f"{address}:{MONITOR_PORT}"


def read_facts(command: str, node: Kube) -> Facts:
    """The facts at the beginning of a run."""
    version = node.request("GET", "/version")["gitVersion"]
    commit = _say("git", "rev-parse", "--short", "HEAD")
    load = os.getloadavg()[0]
    return Facts(
        command=command,
        at=datetime.now(UTC).replace(microsecond=0),
        commit=commit,
        machine=f"{os.cpu_count()} cores, {_memory():.0f} GiB, {platform.system()} {platform.machine()}",
        load=(load, load),
        kubernetes=version,
        keda=KEDA_VERSION,
    )


def close_facts(facts: Facts) -> Facts:
    """The same at the end of the run."""
    seconds = (datetime.now(UTC) - facts.at).total_seconds()
    load = (round(facts.load[0], 1), round(os.getloadavg()[0], 1))
    return facts.model_copy(update={"load": load, "seconds": round(seconds)})


def save(folder: Path | None, name: str, result: BaseModel) -> None:
    """The result as JSON in the folder, if one was asked for."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _say(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=package_root())
    return done.stdout.strip()
