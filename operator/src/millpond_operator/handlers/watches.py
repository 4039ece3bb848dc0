"""kopf watches every kind and puts what it sees into the caches; nothing is decided here.

Only `on.event` handlers, so no object gets a finalizer or an annotation, and with no-op storages kopf writes nothing
at all. A watch that misses something (a 410 relist sends no DELETED) is healed by the caches' resync.
"""

from collections.abc import Iterable
from typing import Any

import kopf
from kopf._core.engines.peering import Identity
from millpond_api import GROUP, LABEL_POOL, VERSION

from millpond_operator.cluster.cache import Cache


class NoDiffBase(kopf.DiffBaseStorage):
    """Nothing is diffed, so nothing is remembered."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """There are no long-running handlers, so there is no progress."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def make_settings() -> kopf.OperatorSettings:
    """Quiet and prompt: kopf logs only warnings, and a worker gives its place back at once (facts: idle_timeout)."""
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.queueing.idle_timeout = 0.05
    settings.queueing.worker_limit = 100
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.error_backoffs = (0.2, 0.5, 1, 1, 2, 2, 2, 3, 5)
    return settings


def make_registry(caches: Iterable[Cache]) -> kopf.OperatorRegistry:
    """One `on.event` handler for each cache."""
    registry = kopf.OperatorRegistry()

    # In a pod the mounted token; elsewhere the kubeconfig (a registry of one's own starts without a login).
    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    for cache in caches:
        _register(registry, cache)
    return registry


def _register(registry: kopf.OperatorRegistry, cache: Cache) -> None:
    async def observe(event: Any, **_: Any) -> None:
        cache.observe(event["type"], dict(event["object"]))

    if cache.plural == "pods":
        kopf.on.event("", "v1", "pods", labels={LABEL_POOL: kopf.PRESENT}, registry=registry)(observe)
    elif cache.plural == "deployments":
        kopf.on.event("apps", "v1", "deployments", labels={LABEL_POOL: kopf.PRESENT}, registry=registry)(observe)
    else:
        kopf.on.event(GROUP, VERSION, cache.plural, registry=registry)(observe)


async def watch(caches: Iterable[Cache], namespace: str) -> None:
    """Run kopf until it is cancelled or fails."""
    await kopf.operator(
        registry=make_registry(caches),
        settings=make_settings(),
        standalone=True,
        # kopf would ask for the user's name, which a bare uid in a container does not have.
        identity=Identity("millpond-operator"),
        clusterwide=not namespace,
        namespaces=[namespace] if namespace else [],
    )
