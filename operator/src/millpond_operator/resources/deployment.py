"""The Deployment of one version of a pool's template: pure, from the spec to a manifest for server-side apply.

Each version has a Deployment of its own (as Temporal's worker controller does it), so that a new template never makes
Kubernetes stop an old worker: `handlers.rollouts` moves workers from one to the other. It has no owner reference:
the garbage collector would stop busy workers when their pool is deleted. The operator drains it and then deletes it.

Owns the pod's shape: non-root, read-only root file system, no privileges, no API token (workers talk to NATS alone),
probes, and a termination grace period that leaves the worker its whole drain time. What the user writes in
spec.template is merged over it by names, except where that would break the worker (its command line and identity).
"""

import hashlib
import json
import math
from typing import Any

from millpond_api import ANNOTATION_RESTART, LABEL_BUSY, LABEL_POOL, LABEL_VERSION
from millpond_api.durations import parse_duration
from millpond_api.v1alpha1 import WorkerPoolSpec

from millpond_operator.cluster_key import PoolKey
from millpond_operator.resources.variables import make_variables

HASH = "millpond.dev/template-hash"
MANAGED_BY = "app.kubernetes.io/managed-by"
VERSION_DIGITS = 8
HTTP_PORT = 8080
GRACE_MARGIN = 5.0
"""Seconds between the worker's own deadline and the kubelet's SIGKILL: to release what is left and say goodbye."""
LIVENESS_PERIOD = 15
SILENT_LONGEST = 300
"""Seconds for which a worker that answers no probe is left alone. A call into C that holds the interpreter answers
none, and its understudy keeps its leases meanwhile, for as long (`millpond.worker.understudy.LONGEST`): a patience
of 60 s would kill a task that does so for a minute, and its neighbours, again and again. Whoever is
silent for longer has lost its tasks to others anyway."""


def deployment_name(pool: str, version: str) -> str:
    """Not the pool's bare name: a Deployment of that name may be somebody else's."""
    return f"{pool}-worker-{version}"


def selector(pool: str) -> str:
    """The label selector of a pool's pods."""
    return f"{LABEL_POOL}={pool}"


def make_deployment(
    key: PoolKey, spec: WorkerPoolSpec, nats_url: str, replicas: int, restart: str = ""
) -> dict[str, Any]:
    """The manifest; its version label and its name come from the hash of the pods' template.

    `restart` is the pool's annotation: with another value it is another template, as after `kubectl rollout restart`.
    """
    labels = {
        "app.kubernetes.io/name": "millpond-worker",
        "app.kubernetes.io/instance": key.pool,
        MANAGED_BY: "millpond",
        LABEL_POOL: key.pool,
    }
    template = merge(_template(key, spec, nats_url, labels), spec.template or {})
    template["metadata"]["labels"] |= labels
    restarted = {ANNOTATION_RESTART: restart} if restart else {}
    if restarted:
        template["metadata"]["annotations"] = template["metadata"].get("annotations", {}) | restarted
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]
    version = digest[:VERSION_DIGITS]
    # A new worker counts as busy until it has been idle for a while: it takes its first task at once.
    template["metadata"]["labels"] |= {LABEL_VERSION: version, LABEL_BUSY: "true"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(key.pool, version),
            "namespace": key.namespace,
            "labels": labels | {LABEL_VERSION: version},
            "annotations": {HASH: digest} | restarted,
        },
        "spec": {
            "replicas": replicas,
            # A version's template never changes, so there is no revision to go back to.
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": {LABEL_POOL: key.pool, LABEL_VERSION: version}},
            "template": template,
        },
    }


def _template(key: PoolKey, spec: WorkerPoolSpec, nats_url: str, labels: dict[str, str]) -> dict[str, Any]:
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
        "containers": [_container(key, spec, nats_url)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret.name} for secret in spec.image_pull_secrets]
    return {"metadata": {"labels": dict(labels)}, "spec": pod}


def _container(key: PoolKey, spec: WorkerPoolSpec, nats_url: str) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "worker",
        "image": spec.image,
        "env": [*spec.env, *_environment(key, spec, nats_url)],
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
        "livenessProbe": _probe("/healthz", period=LIVENESS_PERIOD, failures=SILENT_LONGEST // LIVENESS_PERIOD),
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


def _environment(key: PoolKey, spec: WorkerPoolSpec, nats_url: str) -> list[dict[str, Any]]:
    plain = make_variables(key, spec, {"MILLPOND_NATS_URL": nats_url}, HTTP_PORT)
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
