"""KEDA, the peer that Millpond is measured beside: its command lines and the objects that it needs.

Pure: from a cluster's facts to commands and manifests; keda_lifecycle.py starts and applies them. Operator and metrics
adapter are host processes, as the control plane is; the API server reaches the adapter through a Service whose one
endpoint is this host's address. Settings are KEDA's own defaults wherever they have to do with speed.

Source: KEDA v2.20.1, config/manager and config/metrics-server (its own manifests of the same two programs).
"""

from __future__ import annotations

from pathlib import Path

from millpond_cluster.local.client import Object
from millpond_cluster.local.control_plane import Command, Facts
from millpond_cluster.local.state import ClusterState, KedaPorts

NAMESPACE = "keda"
OPERATOR, ADAPTER = "keda-operator", "keda-adapter"
SERVER_NAMES = (f"{OPERATOR}.{NAMESPACE}.svc", "localhost", "127.0.0.1")
METRICS_API = "v1beta1.external.metrics.k8s.io"
_SERVICE = "keda-metrics-apiserver"


def make_operator(facts: Facts, ports: KedaPorts, certificates: Path) -> Command:
    flags = {
        "leader-elect": "false",
        "metrics-bind-address": "0",
        "health-probe-bind-address": f"127.0.0.1:{ports.health}",
        "metrics-service-bind-address": f"127.0.0.1:{ports.metrics_service}",
        "cert-dir": str(certificates),
        "enable-webhook-patching": "false",
        "enable-apiservice-patching": "false",
        "zap-log-level": "info",
    }
    return Command(OPERATOR, _argv(facts, OPERATOR, flags))


def make_adapter(facts: Facts, ports: KedaPorts, certificates: Path) -> Command:
    kubeconfig = facts.kubeconfig("admin")
    flags = {
        "bind-address": facts.state.host_address,
        "secure-port": str(ports.adapter),
        "port": str(ports.adapter_metrics),
        "metrics-service-address": f"localhost:{ports.metrics_service}",
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "lister-kubeconfig": kubeconfig,
        "client-ca-file": str(certificates / "ca.crt"),
        "tls-cert-file": str(certificates / "tls.crt"),
        "tls-private-key-file": str(certificates / "tls.key"),
        "cert-dir": str(certificates),
        "zap-log-level": "error",
    }
    return Command(ADAPTER, _argv(facts, ADAPTER, flags))


def _argv(facts: Facts, program: str, flags: dict[str, str]) -> list[str]:
    """Through env(1), which becomes the program: KEDA takes its namespaces from the environment alone."""
    namespaces = {"POD_NAMESPACE": NAMESPACE, "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE, "WATCH_NAMESPACE": ""}
    environment = {"KUBECONFIG": facts.kubeconfig("admin"), **namespaces}
    variables = [f"{name}={value}" for name, value in environment.items()]
    return ["/usr/bin/env", *variables, str(facts.programs[program]), *(f"--{n}={v}" for n, v in flags.items())]


def make_scaled_job_definition() -> Object:
    """ScaledJob without a schema: KEDA waits for the kind, and the API server refuses the module's own file unpatched.

    Source: https://github.com/kedacore/keda/issues/927. No ScaledJob is made here.
    """
    names = {"kind": "ScaledJob", "listKind": "ScaledJobList", "plural": "scaledjobs", "singular": "scaledjob"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledjobs.keda.sh"},
        "spec": {
            "group": "keda.sh",
            "names": names,
            "scope": "Namespaced",
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }


def make_metrics_api(state: ClusterState, ports: KedaPorts) -> list[Object]:
    """KEDA's namespace, and the aggregated API that the horizontal pod autoscaler reads."""
    place = {"namespace": NAMESPACE}
    labels = {"kubernetes.io/service-name": _SERVICE, "endpointslice.kubernetes.io/managed-by": "millpond-cluster"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _SERVICE, **place},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": ports.adapter, "protocol": "TCP"}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{_SERVICE}-host", "labels": labels, **place},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [state.host_address], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": ports.adapter, "protocol": "TCP"}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": METRICS_API},
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {"name": _SERVICE, "namespace": NAMESPACE},
            },
        },
    ]
