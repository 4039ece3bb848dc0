"""The command lines and configuration files of etcd, API server, controller manager and scheduler.

Pure: from a cluster's facts to commands and file contents; it must not write, start or wait for anything. The limits
for clients are generous on purpose: with Kubernetes' defaults a scale test measures client-side throttling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from millpond_cluster.local.state import ClusterState, Profile
from millpond_cluster.paths import ClusterPaths

SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
POD_CIDR = "10.244.0.0/16"
CLUSTER_DOMAIN = "cluster.local"
CLIENT_QPS = 2000
CLIENT_BURST = 4000
LOOKERS_AROUND = ("PodTopologySpread", "InterPodAffinity", "ImageLocality", "NodeResourcesBalancedAllocation")
"""Scheduler plugins that look at all pods of all nodes for each pod. Fake nodes are all alike, and at 3,500 pods the
scheduler took as much CPU as the API server (seen); without them it took a fifth of that at 13,000."""
LAZY_COLLECTOR = ["/usr/bin/env", "GOGC=400"]
"""Fake nodes stand for tests of scale, where memory abounds and two cores do not: Go's collector, by default begun
whenever the heap has doubled, was a third of the API server's CPU while pods were made (seen in its profile)."""


@dataclass(frozen=True)
class Facts:
    """What every builder of a command line needs to know."""

    paths: ClusterPaths
    state: ClusterState
    programs: Mapping[str, Path]

    def certificate(self, name: str) -> str:
        return str(self.paths.certificates / name)

    def kubeconfig(self, component: str) -> str:
        return str(self.paths.config / f"{component}.kubeconfig")

    def config(self, file: str) -> str:
        return str(self.paths.config / file)


@dataclass(frozen=True)
class Command:
    """A component that is to run: its name, its arguments, and the cgroup that it and its children live in, if any."""

    name: str
    argv: list[str]
    cgroup: Path | None = None


def make_server_names(facts: Facts) -> list[str]:
    """Every name and address that a client may reach the API server by."""
    names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
        "localhost",
    ]
    return [*names, "127.0.0.1", API_SERVICE_ADDRESS, facts.state.host_address]


def make_etcd(facts: Facts) -> Command:
    client, peer = (f"http://127.0.0.1:{port}" for port in (facts.state.ports.etcd, facts.state.ports.etcd_peer))
    flags = {
        "name": facts.state.name,
        "data-dir": str(facts.paths.etcd),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{facts.state.name}={peer}",
        "unsafe-no-fsync": "true",  # a test cluster: survives SIGKILL (page cache), not a power cut, and is far quicker
        "quota-backend-bytes": str(4 * 1024**3),
        "auto-compaction-retention": "5m",
        "log-level": "warn",
    }
    return Command("etcd", make_argv(facts, "etcd", flags))


def make_apiserver(facts: Facts) -> Command:
    flags = {
        "etcd-servers": f"http://127.0.0.1:{facts.state.ports.etcd}",
        "secure-port": str(facts.state.ports.apiserver),
        "tls-cert-file": facts.certificate("apiserver.crt"),
        "tls-private-key-file": facts.certificate("apiserver.key"),
        "client-ca-file": facts.certificate("ca.crt"),
        "service-account-issuer": f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        "service-account-key-file": facts.certificate("service-account.pub"),
        "service-account-signing-key-file": facts.certificate("service-account.key"),
        "service-cluster-ip-range": SERVICE_CIDR,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "kubelet-client-certificate": facts.certificate("apiserver-kubelet-client.crt"),
        "kubelet-client-key": facts.certificate("apiserver-kubelet-client.key"),
        "kubelet-preferred-address-types": "InternalIP",
        "profiling": "false",
        **_make_aggregation_flags(facts),
        **_make_address_flags(facts),
        **_make_limits(facts),
    }
    return Command("kube-apiserver", make_argv(facts, "kube-apiserver", flags))


def _make_limits(facts: Facts) -> dict[str, str]:
    """Requests in flight.

    Beside thousands of fake pods few are better: controllers and scheduler had 1,000 writes under way on two cores,
    each took longer than their timeouts, and all were tried again (seen: no progress for a minute, the Lease lost).
    """
    reads, writes = (200, 100) if facts.state.profile is Profile.KWOK else (2000, 1000)
    return {"max-requests-inflight": str(reads), "max-mutating-requests-inflight": str(writes)}


def _make_aggregation_flags(facts: Facts) -> dict[str, str]:
    """What an aggregated API (a metrics adapter, say) needs.

    Routed to endpoints, so that it works without kube-proxy too.
    """
    return {
        "requestheader-client-ca-file": facts.certificate("front-proxy-ca.crt"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": facts.certificate("front-proxy-client.crt"),
        "proxy-client-key-file": facts.certificate("front-proxy-client.key"),
        "enable-aggregator-routing": "true",
    }


def _make_address_flags(facts: Facts) -> dict[str, str]:
    """Pods must reach the server at the host's address; without a node nobody outside this host has to."""
    if facts.state.profile is Profile.NODE:
        return {"bind-address": "0.0.0.0", "advertise-address": facts.state.host_address}
    return {
        "bind-address": "127.0.0.1",
        "advertise-address": facts.state.host_address,
        "endpoint-reconciler-type": "none",
    }


def make_controller_manager(facts: Facts) -> Command:
    kubeconfig = facts.kubeconfig("controller-manager")
    flags = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "root-ca-file": facts.certificate("ca.crt"),
        "service-account-private-key-file": facts.certificate("service-account.key"),
        "cluster-signing-cert-file": facts.certificate("ca.crt"),
        "cluster-signing-key-file": facts.certificate("ca.key"),
        "use-service-account-credentials": "true",
        "bind-address": "127.0.0.1",
        "secure-port": str(facts.state.ports.controller_manager),
        # It is alone; and with an election it would end itself whenever a test kills the API server for a while.
        "leader-elect": "false",
        "kube-api-qps": str(CLIENT_QPS),
        "kube-api-burst": str(CLIENT_BURST),
        "concurrent-deployment-syncs": "20",
        "concurrent-replicaset-syncs": "20",
        "pvclaimbinder-sync-period": "2s",
    }
    return Command("kube-controller-manager", make_argv(facts, "kube-controller-manager", flags))


def make_scheduler(facts: Facts) -> Command:
    kubeconfig = facts.kubeconfig("scheduler")
    flags = {
        "config": facts.config("scheduler.json"),
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "secure-port": str(facts.state.ports.scheduler),
    }
    return Command("kube-scheduler", make_argv(facts, "kube-scheduler", flags))


def make_scheduler_config(facts: Facts) -> str:
    kwok = facts.state.profile is Profile.KWOK
    plugins = {"multiPoint": {"disabled": [{"name": name} for name in LOOKERS_AROUND]}}
    return json.dumps(
        {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": facts.kubeconfig("scheduler"), "qps": CLIENT_QPS, "burst": CLIENT_BURST},
            "leaderElection": {"leaderElect": False},
            "percentageOfNodesToScore": 5 if kwok else 0,
            "profiles": [{"schedulerName": "default-scheduler", **({"plugins": plugins} if kwok else {})}],
        },
        indent=1,
    )


def make_argv(facts: Facts, program: str, flags: Mapping[str, str]) -> list[str]:
    """The program's command line; beside fake nodes with a collector that takes its time."""
    before = LAZY_COLLECTOR if facts.state.profile is Profile.KWOK else []
    return [*before, str(facts.programs[program]), *(f"--{name}={value}" for name, value in flags.items())]
