"""KEDA's side of a comparison: the Deployment that it scales and the ScaledObject that tells it how.

Pure builders. The pods are those of a Millpond pool, copied from its Deployment: same image, command, probes and grace
period, on a queue of the same shape. What is not copied is Millpond's labels, so that its operator leaves them alone.
"""

from dataclasses import dataclass
from typing import Any

from millpond_api import subjects

from bench.watches import TARGET
from tests.support.kube import Body

SCALED_OBJECTS = "/apis/keda.sh/v1alpha1"
AUTOSCALERS = "/apis/autoscaling/v2"
TRIGGER = "nats-jetstream"


@dataclass(frozen=True)
class Place:
    """Where a target lies, and where KEDA reads the lag of its queue (host:port of NATS' monitoring endpoint)."""

    namespace: str
    target: str
    monitor: str


def make_deployment(place: Place, template: Body, replicas: int) -> Body:
    """The Deployment of a target, from the pod template of a pool's Deployment."""
    labels = {TARGET: place.target}
    spec = dict(template["spec"])
    containers = [_with_pool(place, container) for container in spec["containers"]]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": place.target, "namespace": place.namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {**spec, "containers": containers}},
        },
    }


def _with_pool(place: Place, container: Body) -> Body:
    here = {"MILLPOND_NAMESPACE": place.namespace, "MILLPOND_POOL": place.target}
    environment: list[Any] = [
        {"name": one["name"], "value": here[one["name"]]} if one["name"] in here else one
        for one in container.get("env", [])
    ]
    return {**container, "env": environment}


def make_scaled_object(place: Place, lag: int, most: int, more: Body) -> Body:
    """A ScaledObject with KEDA's defaults but for `more`; `lag` tasks for each pod, at most `most` pods."""
    trigger = {
        "natsServerMonitoringEndpoint": place.monitor,
        "account": "$G",
        "stream": subjects.pool_stream(place.namespace, place.target),
        "consumer": subjects.consumer("default"),
        "lagThreshold": str(lag),
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": place.target, "namespace": place.namespace},
        "spec": {
            "scaleTargetRef": {"name": place.target},
            "minReplicaCount": 0,
            "maxReplicaCount": most,
            **more,
            "triggers": [{"type": TRIGGER, "metadata": trigger}],
        },
    }
