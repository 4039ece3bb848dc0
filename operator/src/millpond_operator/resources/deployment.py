"""The Deployment of a pool's workers: pure, from the WorkerPool's body to a manifest for server-side apply.

Owns the pod's shape: non-root, read-only root file system, no privileges, no API token (workers talk to NATS alone),
probes, and a termination grace period that leaves the worker its whole drain time. What the user writes in
spec.template is merged over it by names, except where that would break the worker (its command line and identity).
"""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from millpond_api import API_VERSION, LABEL_POOL
from millpond_api.durations import parse_duration
from millpond_api.retry import RetryPolicy
from millpond_api.v1alpha1 import WorkerPoolSpec

HASH = "millpond.dev/template-hash"
HTTP_PORT = 8080
GRACE_MARGIN = 5.0
"""Seconds between the worker's own deadline and the kubelet's SIGKILL: to release what is left and say goodbye."""


@dataclass(frozen=True)
class Owner:
    """The WorkerPool that the Deployment belongs to."""

    namespace: str
    name: str
    uid: str


def deployment_name(pool: str) -> str:
    """Not the pool's bare name: a Deployment of that name may be somebody else's."""
    return f"{pool}-worker"


def selector(pool: str) -> str:
    """The label selector of a pool's pods."""
    return f"{LABEL_POOL}={pool}"


def make_retry_policy(spec: WorkerPoolSpec) -> RetryPolicy:
    """The pool's retry as the wire's policy."""
    backoff = spec.retry.backoff
    return RetryPolicy(
        max_attempts=spec.retry.max_attempts,
        initial=parse_duration(backoff.initial),
        factor=backoff.factor,
        maximum=parse_duration(backoff.maximum),
        jitter=backoff.jitter,
    )


def make_deployment(owner: Owner, spec: WorkerPoolSpec, nats_url: str, replicas: int) -> dict[str, Any]:
    """The manifest; its hash annotation tells whether it must be applied again."""
    labels = {
        "app.kubernetes.io/name": "millpond-worker",
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/managed-by": "millpond",
        LABEL_POOL: owner.name,
    }
    template = merge(_template(owner, spec, nats_url, labels), spec.template or {})
    template["metadata"]["labels"] |= labels
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(owner.name),
            "namespace": owner.namespace,
            "labels": labels,
            "annotations": {HASH: digest},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "WorkerPool",
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": {LABEL_POOL: owner.name}},
            # New workers come before old ones go; each old one drains on its SIGTERM.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": template,
        },
    }


def _template(owner: Owner, spec: WorkerPoolSpec, nats_url: str, labels: dict[str, str]) -> dict[str, Any]:
    grace = parse_duration(spec.shutdown.grace_period)
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(grace + GRACE_MARGIN),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(owner, spec, nats_url)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret.name} for secret in spec.image_pull_secrets]
    return {"metadata": {"labels": dict(labels)}, "spec": pod}


def _container(owner: Owner, spec: WorkerPoolSpec, nats_url: str) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "worker",
        "image": spec.image,
        "env": [*spec.env, *_environment(owner, spec, nats_url)],
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        # The start is probed every second, so that a new worker counts as ready soon; afterwards rarely: a probe
        # costs the kubelet and a busy worker's CPU.
        "startupProbe": _probe("/readyz", period=1, failures=300),
        "readinessProbe": _probe("/readyz", period=10, failures=3),
        "livenessProbe": _probe("/healthz", period=15, failures=4),
    }
    if spec.image is None:
        del container["image"]
    if spec.image_pull_policy:
        container["imagePullPolicy"] = spec.image_pull_policy
    if spec.resources:
        container["resources"] = spec.resources
    return container


def _probe(url_path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": url_path, "port": HTTP_PORT},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _environment(owner: Owner, spec: WorkerPoolSpec, nats_url: str) -> list[dict[str, Any]]:
    plain = {
        "MILLPOND_NATS_URL": nats_url,
        "MILLPOND_NAMESPACE": owner.namespace,
        "MILLPOND_POOL": owner.name,
        "MILLPOND_APP": spec.app,
        "MILLPOND_CONCURRENCY": str(spec.concurrency),
        "MILLPOND_CLASSES": ",".join(spec.queue.classes),
        "MILLPOND_RETRY": make_retry_policy(spec).model_dump_json(),
        "MILLPOND_LEASE": f"{parse_duration(spec.timeouts.lease):g}",
        "MILLPOND_POISON_LIMIT": str(spec.retry.max_lost_workers),
        "MILLPOND_GRACE": f"{parse_duration(spec.shutdown.grace_period):g}",
        "MILLPOND_HTTP_PORT": str(HTTP_PORT),
    }
    pod_name = {"name": "MILLPOND_WORKER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return [*({"name": name, "value": value} for name, value in plain.items()), pod_name]


def merge(base: Any, over: Any) -> Any:
    """`over` merged into `base`: objects by key, lists of named objects by name, everything else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {
            key: merge(base[key], over[key]) if key in base and key in over else base.get(key, over.get(key))
            for key in (*base, *(k for k in over if k not in base))
        }
    if isinstance(base, list) and isinstance(over, list) and _named(base) and _named(over):
        changes = {item["name"]: item for item in over}
        kept = [merge(item, changes.pop(item["name"])) if item["name"] in changes else item for item in base]
        return [*kept, *changes.values()]
    return over


def _named(items: list[Any]) -> bool:
    return all(isinstance(item, dict) and "name" in item for item in items)
