"""What the operator has seen of the API server: one dictionary a kind, fed by kopf's watches and healed by listing.

Owns the newest body of each object by resource version. kopf sends no DELETED for what vanished during a relist, so
`resync` lists and compares: what is gone is dropped and reported like any other change. It never writes.
"""

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
    return Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])


def version_of(body: Body) -> int:
    """Resource versions are comparable numbers (KEP-5504, Kubernetes 1.35); 0 where one is not a number."""
    text = body["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdigit() else 0


class Cache:
    """All objects of one kind; `on_change(old, new)` hears every change, with None for absent."""

    def __init__(
        self, plural: str, namespace: str = "", selector: str = "", keep: Callable[[Body], Body] | None = None
    ) -> None:
        """`keep`: what is kept of a body, where the whole is much larger than what is needed."""
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
        body = self._keep(body) if self._keep else body
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
        self.objects[key] = body
        self._tell(old, body)

    async def resync(self, api: Api) -> None:
        """List everything and compare: heals what a watch missed."""
        before = dict(self.objects)
        items = await api.read_all(self.plural, self.namespace, self.selector)
        listed = set()
        for body in items:
            key = key_of(body)
            listed.add(key)
            known = self.objects.get(key)
            if known is None or version_of(known) < version_of(body):
                self.observe(None, body)
        for key, body in before.items():
            if key not in listed and self.objects.get(key) is body:
                self.observe("DELETED", body)

    def _bury(self, uid: str) -> None:
        self._buried[uid] = None
        if len(self._buried) > BURIED:
            for old in list(self._buried)[: BURIED // 2]:
                del self._buried[old]

    def _tell(self, old: Body | None, new: Body | None) -> None:
        for listener in self._listeners:
            listener(old, new)
