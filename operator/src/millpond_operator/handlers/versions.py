"""The versions of each pool's template: one Deployment each, seen through the cache.

Owns the index from a pool to its Deployments, so that looking at one pool does not cost a walk over all of them. It
writes nothing. A Deployment without the version label was made by an earlier operator: it is the version UNVERSIONED.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millpond_api import ANNOTATION_RESTART, LABEL_POOL, LABEL_VERSION, UNVERSIONED

from millpond_operator.cluster.cache import Body, Cache
from millpond_operator.cluster_key import PoolKey
from millpond_operator.resources.deployment import MANAGED_BY

CONTAINER = "worker"


@dataclass(frozen=True)
class Version:
    """A Deployment of the pool. `replicas` is what it is asked for, `exist` the pods that its controller counts."""

    version: str
    deployment: str
    replicas: int
    exist: int
    made: datetime
    image: str
    owned: bool
    """It has owner references (of an earlier operator): the garbage collector would stop its workers."""
    restarted: str = ""
    """The restart of the pool that it was made for."""


class Versions:
    """`of(pool)`: its versions by their names, in the order in which they were made."""

    def __init__(self, deployments: Cache) -> None:
        self._by_pool: dict[PoolKey, dict[str, Version]] = defaultdict(dict)
        deployments.subscribe(self._on_change)

    def of(self, key: PoolKey) -> dict[str, Version]:
        return self._by_pool.get(key, {})

    def pools(self) -> list[PoolKey]:
        """Every pool that has a version, also those that do not exist any more."""
        return list(self._by_pool)

    def total(self, key: PoolKey) -> int:
        """Workers that all versions together are asked for."""
        return sum(version.replicas for version in self.of(key).values())

    def _on_change(self, old: Body | None, new: Body | None) -> None:
        body = new or old
        assert body is not None
        key = pool_of_deployment(body)
        if key is None:
            return
        version = read_version(body)
        known = self._by_pool[key]
        if new is None:
            known.pop(version.version, None)
            if not known:
                del self._by_pool[key]
        elif version.version in known:
            known[version.version] = version
        else:
            known[version.version] = version
            ordered = sorted(known.values(), key=lambda one: (one.made, one.version))
            self._by_pool[key] = {one.version: one for one in ordered}


def pool_of_deployment(body: Body) -> PoolKey | None:
    """The pool that a Deployment of ours belongs to; None for somebody else's."""
    labels = body["metadata"].get("labels", {})
    name = labels.get(LABEL_POOL)
    return PoolKey(body["metadata"]["namespace"], name) if name and labels.get(MANAGED_BY) == "millpond" else None


def read_version(body: Body) -> Version:
    """What is needed of a Deployment."""
    meta, spec = body["metadata"], body["spec"]
    containers: list[dict[str, Any]] = spec["template"]["spec"].get("containers", [])
    return Version(
        version=meta.get("labels", {}).get(LABEL_VERSION, UNVERSIONED),
        deployment=meta["name"],
        replicas=int(spec.get("replicas", 0)),
        exist=int(body.get("status", {}).get("replicas", 0)),
        made=datetime.fromisoformat(meta["creationTimestamp"]),
        image=next((one.get("image", "") for one in containers if one["name"] == CONTAINER), ""),
        owned=bool(meta.get("ownerReferences")),
        restarted=(meta.get("annotations") or {}).get(ANNOTATION_RESTART, ""),
    )
