"""What is kept in memory of the objects of which there are many: pure, one function a kind, for `Cache(keep=…)`.

A pool's worker costs a pod and a Worker object. Whole they are 30 KB of Python dictionaries; what is read of them later
is 1 KB. A pool's status is 23 KB of them after twenty decisions, and packed 1. Listeners of a cache still see the whole
body when it arrives: what they need of it they note themselves.
"""

import sys
import zlib
from functools import lru_cache
from typing import Any

import orjson
from millpond_api import GROUP

Body = dict[str, Any]

_IDENTITY = ("name", "uid", "resourceVersion", "deletionTimestamp")


def pack(status: Body) -> bytes:
    """A status to be remembered, at 12 µs for a Worker's: 0.4 KB where its model takes 8."""
    return zlib.compress(orjson.dumps(status), 1)


def unpack(packed: bytes) -> bytes:
    """The JSON of what was packed."""
    return zlib.decompress(packed)


def keep_pool(body: Body) -> Body:
    """All of it, but for who wrote which field; its status is packed (`packedStatus`), or absent."""
    kept = {name: value for name, value in body.items() if name != "status"}
    kept["metadata"] = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    if body.get("status"):
        kept["packedStatus"] = pack(body["status"])
    return kept


def keep_pod(body: Body) -> Body:
    """Who it is and which of our labels it has; its status is read once, when it arrives."""
    metadata = _identity(body)
    labels = body["metadata"].get("labels") or {}
    metadata["labels"] = _share(tuple((name, value) for name, value in labels.items() if name.startswith(GROUP)))
    return {"metadata": metadata}


def keep_worker(body: Body) -> Body:
    """Who it is, whose it is and the state that it says."""
    state = (body.get("status") or {}).get("state", "")
    metadata = _identity(body) | {"creationTimestamp": sys.intern(body["metadata"]["creationTimestamp"])}
    remote = (("remote", "true"),) if body["spec"].get("remote") else ()
    spec = _share((("pool", body["spec"]["pool"]), *remote))
    return {"metadata": metadata, "spec": spec, "status": _share((("state", state),)) if state else None}


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
    metadata["name"], metadata["namespace"] = sys.intern(found["name"]), sys.intern(found["namespace"])
    return metadata


@lru_cache(maxsize=10_000)
def _share(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """One dictionary for all objects that have the same labels of ours, pool or state; nobody may write into it."""
    return {sys.intern(name): sys.intern(value) for name, value in pairs}
