"""The objects that every cluster begins with: cluster DNS, the default StorageClass, fake nodes.

Pure builders; it must not talk to the API server (lifecycle.py applies them).
"""

from __future__ import annotations

from millpond_cluster.local.client import Object
from millpond_cluster.local.control_plane import DNS_SERVICE_ADDRESS
from millpond_cluster.local.state import ClusterState

PROVISIONER = "millpond.dev/hostpath"
STORAGE_CLASS = "standard"
KWOK_ANNOTATION = "kwok.x-k8s.io/node"


def make_dns_objects(state: ClusterState) -> list[Object]:
    """CoreDNS runs on the host: a Service without selector, and the host's address as its endpoint."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    protocols = (("dns", "UDP"), ("dns-tcp", "TCP"))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {
            "clusterIP": DNS_SERVICE_ADDRESS,
            "ports": [
                {"name": name, "port": 53, "targetPort": state.ports.dns, "protocol": protocol}
                for name, protocol in protocols
            ],
        },
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-host",
            "namespace": "kube-system",
            "labels": {
                "kubernetes.io/service-name": "kube-dns",
                "endpointslice.kubernetes.io/managed-by": "millpond-cluster",
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [state.host_address], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": state.ports.dns, "protocol": protocol} for name, protocol in protocols],
    }
    return [*_make_dns_role(), service, endpoints]


def _make_dns_role() -> list[Object]:
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "system:coredns"}
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "system:coredns"}],
        },
    ]


def make_storage_class() -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def make_fake_node(number: int) -> Object:
    """A node that only kwok plays.

    No taint: in this profile there are no others, and plain Deployments are to be scheduled.
    """
    name = f"kwok-{number:04d}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {KWOK_ANNOTATION: "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "type": "kwok",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/role": "agent",
            },
        },
    }


def make_fake_node_status(number: int) -> Object:
    room = {"cpu": "64", "memory": "512Gi", "pods": "500"}
    return {**make_fake_node(number), "status": {"capacity": room, "allocatable": room}}
