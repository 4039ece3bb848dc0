"""What the operator has seen of the API server: one dictionary a kind, fed by watches and healed by listing.

Owns the newest body of each object by resource version, slimmed at the door: `keep` leaves what is read later (20,000
whole pods are 500 MB of Python, and a third of a pod is its managedFields). Listeners hear the whole new body and what
was kept of the old one. A watch may miss what vanished while it was away, so `resync` lists and compares: what is
gone is dropped and reported like any other change. It never writes.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from millpond_operator.cluster.api import Api

Body = dict[str, Any]

BURIED = 20_000
"""Deleted uids that are remembered: more than are deleted while one list is under way."""


class Key(NamedTuple):
    """An object of a kind."""

    namespace: str
    name: str


def key_of(body: Body) -> Key:
    """Its key; a worker's name stands in half a dozen places, and is kept once."""
    return Key(sys.intern(body["metadata"].get("namespace", "")), sys.intern(body["metadata"]["name"]))


def version_of(body: Body) -> int:
    """Resource versions are comparable numbers (KEP-5504, Kubernetes 1.35); 0 where one is not a number."""
    text = body["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdigit() else 0


def keep_all(body: Body) -> Body:
    """Everything but who wrote which field (a third of a small object)."""
    return {**body, "metadata": {name: value for name, value in body["metadata"].items() if name != "managedFields"}}


class Cache:
    """All objects of one kind; a listener `(old, new)` hears every change, with None for absent."""

    def __init__(
        self, plural: str, namespace: str = "", selector: str = "", keep: Callable[[Body], Body] = keep_all
    ) -> None:
        self.plural = plural
        self._keep = keep
        self.namespace = namespace
        self.selector = selector
        self.objects: dict[Key, Body] = {}
        self._buried: dict[str, None] = {}
        self._listeners: list[Callable[[Body | None, Body | None], None]] = []

    def subscribe(self, listener: Callable[[Body | None, Body | None], None]) -> None:
        self._listeners.append(listener)

    def get(self, namespace: str, name: str) -> Body | None:
        return self.objects.get(Key(namespace, name))

    def observe(self, event_type: str | None, body: Body) -> None:
        """An event of the watch; an older version than the known one is ignored."""
        key = key_of(body)
        old = self.objects.get(key)
        uid = body["metadata"]["uid"]
        if event_type == "DELETED":
            self._bury(uid)
            if old is not None and old["metadata"]["uid"] == body["metadata"]["uid"]:
                del self.objects[key]
                self._tell(old, None)
            return
        if old is not None and version_of(body) < version_of(old):
            return
        # A list that began before the deletion must not bring the object back.
        if uid in self._buried:
            return
        self.objects[key] = self._keep(body)
        self._tell(old, body)

    async def resync(self, api: Api) -> str:
        """List everything and compare: heals what a watch missed. The list's resource version."""
        before = dict(self.objects)
        version = "0"
        async for items, whole in api.read_pages(self.plural, self.namespace, self.selector):
            version = whole
            for body in items:
                known = self.objects.get(key_of(body))
                before.pop(key_of(body), None)
                if known is None or version_of(known) < version_of(body):
                    self.observe(None, body)
        for key, body in before.items():
            if self.objects.get(key) is body:
                self.observe("DELETED", body)
        return version

    def _bury(self, uid: str) -> None:
        self._buried[uid] = None
        if len(self._buried) > BURIED:
            for old in list(self._buried)[: BURIED // 2]:
                del self._buried[old]

    def _tell(self, old: Body | None, new: Body | None) -> None:
        for listener in self._listeners:
            listener(old, new)
