"""The order in which a cluster's components start, and what each waits for.

Owns the sequence: files → etcd and API server (containerd and its images meanwhile) → controllers, kubelet, proxy,
DNS → objects → ready. Every part looks first at what already runs, so the same sequence makes a new cluster,
completes one whose `up` was killed half way, and replaces components that died. It must not decide whether to start
(lifecycle.py does) or build anything.
"""

from __future__ import annotations

import datetime
import shutil
import sys
import urllib.request
from pathlib import Path

from millpond_cluster.build.builder import BuildahBuilder
from millpond_cluster.build.prepare import Prepared, run_side_by_side
from millpond_cluster.errors import ClusterError
from millpond_cluster.local import cgroups, control_plane, node, objects
from millpond_cluster.local.certificates import ADMIN, CLIENTS, ensure_certificates
from millpond_cluster.local.client import ApiClient
from millpond_cluster.local.components import Components
from millpond_cluster.local.control_plane import Command, Facts
from millpond_cluster.local.kubeconfigs import write_kubeconfig, write_private
from millpond_cluster.local.kwok import make_kwok, make_kwok_config
from millpond_cluster.local.node_images import NodeImages
from millpond_cluster.local.state import ClusterState, Profile
from millpond_cluster.paths import ClusterPaths
from millpond_cluster.report import Reporter

_LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.UTC)


class Startup:
    """One run of the sequence for one cluster."""

    def __init__(self, paths: ClusterPaths, state: ClusterState, prepared: Prepared, reporter: Reporter) -> None:
        self._paths = paths
        self._state = state
        self._prepared = prepared
        self._reporter = reporter
        self._facts = Facts(paths, state, prepared.programs)
        self._components = Components(paths, state)

    def run(self, fake_nodes: int) -> None:
        self._write_files()
        if self._state.profile is Profile.NODE:
            run_side_by_side(self._start_api, self._start_containerd)
        else:
            self._start_api()
        client = ApiClient(self._state.ports.apiserver, self._paths.certificates)
        with self._reporter.step("start controllers" + (" and node" if self._state.profile is Profile.NODE else "")):
            self._components.ensure(control_plane.make_controller_manager(self._facts))
            self._components.ensure(control_plane.make_scheduler(self._facts))
            if self._state.profile is Profile.NODE:
                self._start_node(client)
            if self._state.profile is Profile.KWOK:
                self._start_fake_nodes(client, fake_nodes)
            self._wait_for_controllers(client)

    def _write_files(self) -> None:
        ensure_certificates(
            self._paths.certificates, self._state.node_name, control_plane.make_server_names(self._facts)
        )
        self._write_kubeconfig(self._paths.kubeconfig, ADMIN.file)
        for component in (*(subject.file for subject in CLIENTS), "kubelet"):
            self._write_kubeconfig(Path(self._facts.kubeconfig(component)), component)
        write_private(Path(self._facts.config("scheduler.json")), control_plane.make_scheduler_config(self._facts))
        if self._state.profile is Profile.NODE:
            self._write_node_files()

    def _write_kubeconfig(self, file: Path, subject: str) -> None:
        cluster = f"millpond-{self._state.name}"
        certificates = self._paths.certificates
        write_kubeconfig(file, server=self._state.server, cluster=cluster, certificates=certificates, subject=subject)

    def _write_node_files(self) -> None:
        facts = self._facts
        for file, content in {
            "containerd.toml": node.make_containerd_config(facts),
            "kubelet.json": node.make_kubelet_config(facts, f"/{cgroups.make_group_name(facts.state.name)}"),
            "kube-proxy.json": node.make_proxy_config(facts),
            "Corefile": node.make_dns_config(facts),
            "resolv.conf": "",
        }.items():
            write_private(Path(facts.config(file)), content)
        write_private(self._paths.cni / "net.d" / "10-millpond.conflist", node.make_network_config(facts))
        for folder in (self._paths.kubelet, self._paths.pod_logs, self._paths.volumes):
            folder.mkdir(parents=True, exist_ok=True)

    def _start_api(self) -> None:
        had_data = self._paths.etcd.exists()
        try:
            self._start_api_once()
        except ClusterError:
            if not had_data or self._components.read_process("etcd") is not None:
                raise
            self._reporter.say(
                "etcd could not read the data of the cluster that was killed: starting with an empty one"
            )
            self._components.stop(["kube-apiserver"])
            shutil.rmtree(self._paths.etcd, ignore_errors=True)
            self._start_api_once()

    def _start_api_once(self) -> None:
        with self._reporter.step("start etcd and API server"):
            self._components.ensure(control_plane.make_etcd(self._facts))
            self._components.ensure(control_plane.make_apiserver(self._facts))
            client = ApiClient(self._state.ports.apiserver, self._paths.certificates)
            self._components.wait_until(client.is_ready, "a ready API server", needs=["etcd", "kube-apiserver"])

    def _start_containerd(self) -> None:
        images = NodeImages(self._paths)
        with self._reporter.step("start containerd"):
            self._components.ensure(node.make_containerd(self._facts, cgroups.ensure_group(self._state.name)))
            self._components.wait_until(images.is_serving, "containerd", needs=["containerd"])
        for image in self._prepared.images:
            images.load(BuildahBuilder(), image, self._reporter)

    def _start_node(self, client: ApiClient) -> None:
        for manifest in objects.make_dns_objects(self._state):
            client.apply(manifest)
        client.apply(objects.make_storage_class())
        was_down = self._components.read_process("kubelet") is None
        self._components.ensure(node.make_kubelet(self._facts))
        self._components.ensure(node.make_proxy(self._facts))
        self._components.ensure(node.make_dns(self._facts))
        self._components.ensure(self._make_provisioner())
        began = datetime.datetime.now(datetime.UTC) if was_down else _LONG_AGO
        needs = ["kubelet", "containerd"]
        self._components.wait_until(
            lambda: _is_node_ready(client, self._state.node_name, began), "a ready node", needs=needs
        )
        health = f"http://127.0.0.1:{self._state.ports.dns_health}/health"
        self._components.wait_until(lambda: _answers(health), "cluster DNS", needs=["coredns"])
        proxy = f"http://127.0.0.1:{self._state.ports.proxy_health}/healthz"
        self._components.wait_until(lambda: _answers(proxy), "kube-proxy", needs=["kube-proxy"])

    def _make_provisioner(self) -> Command:
        argv = [sys.executable, "-m", "millpond_cluster.local.provisioner", str(self._state.ports.apiserver)]
        return Command("provisioner", [*argv, str(self._paths.certificates), str(self._paths.volumes)])

    def _start_fake_nodes(self, client: ApiClient, count: int) -> None:
        write_private(Path(self._facts.config("kwok.yaml")), make_kwok_config(self._facts))
        self._components.ensure(make_kwok(self._facts))
        for number in range(count):
            client.apply(objects.make_fake_node(number))
            client.patch_status(objects.make_fake_node_status(number))
        last = str(objects.make_fake_node(count - 1)["metadata"]["name"])
        self._components.wait_until(
            lambda: count == 0 or _is_node_ready(client, last), "ready fake nodes", needs=["kwok"]
        )

    def _wait_for_controllers(self, client: ApiClient) -> None:
        """The default service account is the first thing that controllers make and that every pod needs."""
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        needs = ["kube-controller-manager", "kube-scheduler"]
        self._components.wait_until(
            lambda: client.read(account) is not None, "the controllers' first work", needs=needs
        )


def _is_node_ready(client: ApiClient, name: str, since: datetime.datetime = _LONG_AGO) -> bool:
    """Ready, and said so after `since`: what a killed kubelet said last still stands in the API."""
    found = client.read(f"/api/v1/nodes/{name}") or {}
    for condition in found.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            said = datetime.datetime.fromisoformat(condition["lastHeartbeatTime"])
            return said >= since.replace(microsecond=0)
    return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
