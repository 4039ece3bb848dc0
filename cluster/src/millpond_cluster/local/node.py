"""The command lines and configuration files of a real node: containerd, kubelet, kube-proxy, CoreDNS.

Pure: from a cluster's facts to commands and file contents; it must not write or start anything. Everything that these
programs would by default leave around the machine (network namespaces, address book, pod logs, plug-in folders,
iptables chains) is directed below the cluster's own folder or switched off, so that one cluster's leftovers are known
to be its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from millpond_cluster.local.control_plane import CLUSTER_DOMAIN, DNS_SERVICE_ADDRESS, POD_CIDR, Command, Facts

PAUSE_IMAGE = "localhost/millpond-pause:v1"
MAX_PODS = 250
CNI_PLUGINS = Path("/usr/lib/cni")


def make_network_name(cluster: str) -> str:
    return f"millpond-{cluster}"


def make_containerd(facts: Facts, runtime_cgroup: Path) -> Command:
    return Command(
        "containerd", [str(facts.programs["containerd"]), "--config", facts.config("containerd.toml")], runtime_cgroup
    )


def make_containerd_config(facts: Facts) -> str:
    """`restrict_oom_score_adj`: a VM without CAP_SYS_RESOURCE may not lower a score; without it every sandbox fails."""
    quoted = {
        key: json.dumps(str(value))
        for key, value in {
            "root": facts.paths.containerd_root,
            "state": facts.paths.containerd_state,
            "socket": facts.paths.containerd_socket,
            "opt": facts.paths.containerd_root / "opt",
            "cni": facts.paths.cni / "net.d",
            "plugins": CNI_PLUGINS,
            "pause": PAUSE_IMAGE,
            "runc": facts.paths.containerd_state / "runc",
        }.items()
    }
    return f"""version = 2
root = {quoted["root"]}
state = {quoted["state"]}
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = {quoted["socket"]}
[plugins."io.containerd.internal.v1.opt"]
  path = {quoted["opt"]}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {quoted["pause"]}
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  max_concurrent_downloads = 1
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {quoted["plugins"]}
    conf_dir = {quoted["cni"]}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = {quoted["runc"]}
"""


def make_network_config(facts: Facts) -> str:
    """Point to point, not a bridge.

    Every packet between pods is routed by the host, so that the translation of a Service's address is undone on the
    way back whether or not the kernel filters bridges. No masquerading: pods reach no outside address.
    """
    address_book = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_CIDR}]],
        "dataDir": str(facts.paths.cni / "addresses"),
    }
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": make_network_name(facts.state.name),
            "plugins": [
                {"type": "ptp", "ipMasq": False, "ipam": {**address_book, "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        },
        indent=1,
    )


def make_kubelet(facts: Facts) -> Command:
    flags = {
        "config": facts.config("kubelet.json"),
        "kubeconfig": facts.kubeconfig("kubelet"),
        "root-dir": str(facts.paths.kubelet),
        "cert-dir": str(facts.paths.kubelet / "pki"),
        "hostname-override": facts.state.node_name,
        "node-ip": facts.state.host_address,  # else it asks DNS for the node's name first: 20 s where nobody answers
        "node-labels": "millpond.dev/cluster=" + facts.state.name,
    }
    return Command("kubelet", [str(facts.programs["kubelet"]), *(f"--{name}={value}" for name, value in flags.items())])


def make_kubelet_config(facts: Facts, cgroup_root: str) -> str:
    """Images are loaded by hand and pulled from nowhere, so nothing may be collected or evicted for disk space."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "x509": {"clientCAFile": facts.certificate("ca.crt")},
                "webhook": {"enabled": True},
                "anonymous": {"enabled": False},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{facts.paths.containerd_socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup_root,
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "makeIPTablesUtilChains": False,
            "clusterDNS": [DNS_SERVICE_ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            "resolvConf": facts.config("resolv.conf"),
            "maxPods": MAX_PODS,
            "podLogsDir": str(facts.paths.pod_logs),
            "volumePluginDir": str(facts.paths.kubelet / "volume-plugins"),
            "staticPodPath": "",
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
            "eventRecordQPS": 0,
            "registryPullQPS": 0,
            "serializeImagePulls": False,
            "nodeStatusUpdateFrequency": "5s",
        },
        indent=1,
    )


def make_proxy(facts: Facts) -> Command:
    return Command("kube-proxy", [str(facts.programs["kube-proxy"]), f"--config={facts.config('kube-proxy.json')}"])


def make_proxy_config(facts: Facts) -> str:
    ports = facts.state.ports
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": facts.kubeconfig("kube-proxy")},
            "clusterCIDR": POD_CIDR,
            "hostnameOverride": facts.state.node_name,
            "healthzBindAddress": f"127.0.0.1:{ports.proxy_health}",
            "metricsBindAddress": f"127.0.0.1:{ports.proxy_metrics}",
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"minSyncPeriod": "100ms"},  # a Service must follow its pods within the second that tests allow
        },
        indent=1,
    )


def make_dns(facts: Facts) -> Command:
    return Command("coredns", [str(facts.programs["coredns"]), "-conf", facts.config("Corefile")])


def make_dns_config(facts: Facts) -> str:
    """Short times to live and shorter ones for "no such name".

    A pod that asks before its peer exists must not wait long.
    """
    ports = facts.state.ports
    return f""".:{ports.dns} {{
    bind {facts.state.host_address}
    errors
    health 127.0.0.1:{ports.dns_health}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {facts.kubeconfig("coredns")}
        pods insecure
        ttl 5
    }}
    cache {{
        success 9984 5
        denial 9984 1
    }}
}}
"""
