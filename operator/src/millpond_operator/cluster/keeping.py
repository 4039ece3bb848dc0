"""What is kept in memory of the objects of which there are many: pure, one function a kind, for `Cache(keep=…)`.

A pool's worker costs a pod and a Worker object. Whole they are 30 KB of Python dictionaries; what is read of them later
is 1 KB. Listeners of a cache still see the whole body when it arrives: what they need of it they note themselves.
"""

import sys
from functools import lru_cache
from typing import Any

from millpond_api import GROUP

Body = dict[str, Any]

_IDENTITY = ("name", "uid", "resourceVersion", "deletionTimestamp")


def keep_pod(body: Body) -> Body:
    """Who it is and which of our labels it has; its status is read once, when it arrives."""
    metadata = _identity(body)
    labels = body["metadata"].get("labels") or {}
    metadata["labels"] = _share(tuple((name, value) for name, value in labels.items() if name.startswith(GROUP)))
    return {"metadata": metadata}


def keep_worker(body: Body) -> Body:
    """Who it is, whose it is and the state that it says."""
    state = sys.intern((body.get("status") or {}).get("state", ""))
    spec = {"pool": sys.intern(body["spec"]["pool"])}
    metadata = _identity(body) | {"creationTimestamp": body["metadata"]["creationTimestamp"]}
    return {"metadata": metadata, "spec": spec, "status": {"state": state} if state else None}


def keep_deployment(body: Body) -> Body:
    """Replicas and images, and not who wrote which field: the template's version stands in a label."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    containers = body["spec"]["template"]["spec"].get("containers", [])
    images = [{"name": one["name"], "image": one.get("image", "")} for one in containers]
    spec = {"replicas": body["spec"].get("replicas", 0), "template": {"spec": {"containers": images}}}
    return {"metadata": metadata, "spec": spec, "status": {"replicas": body.get("status", {}).get("replicas", 0)}}


def _identity(body: Body) -> Body:
    found = body["metadata"]
    metadata = {name: found[name] for name in _IDENTITY if name in found}
    metadata["namespace"] = sys.intern(found["namespace"])
    return metadata


@lru_cache(maxsize=10_000)
def _share(labels: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """One dictionary for all objects that have the same labels of ours; nobody may write into it."""
    return {sys.intern(name): sys.intern(value) for name, value in labels}
