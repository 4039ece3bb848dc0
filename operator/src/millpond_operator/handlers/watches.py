"""kopf watches what people write (pools and tasks) and puts what it sees into the caches; nothing is decided here.

What controllers write by the thousand (Deployments, pods, Workers) comes through `cluster.informer`.

Only `on.event` handlers, so no object gets a finalizer or an annotation, and with no-op storages kopf writes nothing
at all. A watch that misses something (a 410 relist sends no DELETED) is healed by the caches' resync.
"""

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

import kopf
import uvloop
from kopf._core.engines.peering import Identity
from millpond_api import GROUP, VERSION

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


def make_settings(namespace: str) -> kopf.OperatorSettings:
    """Quiet and prompt: kopf logs only warnings, and a worker gives its place back at once (facts: idle_timeout)."""
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.queueing.idle_timeout = 0.05
    settings.queueing.worker_limit = 100
    settings.watching.server_timeout = 300
    # A Role in one namespace may not list namespaces and kinds, and need not: neither changes under a release.
    settings.scanning.disabled = bool(namespace)
    settings.watching.connect_timeout = 10
    settings.networking.error_backoffs = (0.2, 0.5, 1, 1, 2, 2, 2, 3, 5)
    return settings


def make_registry(caches: Iterable[Cache], loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
    """One `on.event` handler for each cache, which hands what it sees over to `loop`."""
    registry = kopf.OperatorRegistry()

    # In a pod the mounted token; elsewhere the kubeconfig (a registry of one's own starts without a login).
    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    for cache in caches:
        _register(registry, cache, loop)
    return registry


def _register(registry: kopf.OperatorRegistry, cache: Cache, loop: asyncio.AbstractEventLoop) -> None:
    async def observe(event: Any, **_: Any) -> None:
        loop.call_soon_threadsafe(cache.observe, event["type"], dict(event["object"]))

    kopf.on.event(GROUP, VERSION, cache.plural, registry=registry)(observe)


async def watch(caches: Iterable[Cache], namespace: str) -> None:
    """Run kopf until it is cancelled or fails.

    In a thread of its own: on the main thread kopf would take SIGTERM over, and the Lease would not be released.
    """
    registry = make_registry(caches, asyncio.get_running_loop())
    stop = threading.Event()

    async def operate() -> None:
        await kopf.operator(
            registry=registry,
            settings=make_settings(namespace),
            standalone=True,
            # kopf would ask for the user's name, which a bare uid in a container does not have.
            identity=Identity("millpond-operator"),
            clusterwide=not namespace,
            namespaces=[namespace] if namespace else [],
            stop_flag=stop,
        )

    try:
        await asyncio.to_thread(lambda: uvloop.run(operate()))
    finally:
        stop.set()
