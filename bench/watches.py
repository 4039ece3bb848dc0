"""Watches from outside: what the API server tells of Deployments and pods, with the moment at which it was told.

Owns one thread for each watched collection of a namespace. It decides nothing and writes nothing. Survives an API
server that is away and a watch that ends: it lists again (changes meanwhile are then seen as one, and what is gone is
told as deleted).
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from tests.support.kube import Body, Kube, make_client

AGAIN_SECONDS = 0.5
TARGET = "bench.millpond.dev/target"
"""Label of what is measured: the name of a pool, or of the Deployment that stands in its place."""


class Watch(threading.Thread):
    """Hands every object of a collection to `see`, first those that are there; stops with the process or `close`."""

    def __init__(self, kube: Kube, plural: str, see: Callable[[str, Body], None]) -> None:
        super().__init__(daemon=True, name=f"watch-{plural}")
        self._path, self._kubeconfig = kube.path(plural), kube.kubeconfig
        self._see = see
        self._closed = False
        self._known: dict[str, Body] = {}
        self.listed = threading.Event()

    def begin(self) -> None:
        """Returns when what is there has been seen."""
        self.start()
        if not self.listed.wait(60):
            raise TimeoutError(f"the API server did not list {self._path} within 60 s")

    def close(self) -> None:
        self._closed = True

    def run(self) -> None:
        with make_client(self._kubeconfig) as http:
            while not self._closed:
                try:
                    self._follow(http)
                except (httpx.HTTPError, ValueError):
                    time.sleep(AGAIN_SECONDS)

    def _follow(self, http: httpx.Client) -> None:
        answer = http.get(self._path)
        answer.raise_for_status()
        listing = answer.json()
        there = {item["metadata"]["name"] for item in listing["items"]}
        for gone in [body for name, body in self._known.items() if name not in there]:
            self._tell("DELETED", gone)
        for item in listing["items"]:
            self._tell("ADDED", item)
        self.listed.set()
        version = listing["metadata"]["resourceVersion"]
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3600"}
        with http.stream("GET", self._path, params=query, timeout=None) as stream:
            stream.raise_for_status()
            for line in stream.iter_lines():
                if self._closed:
                    return
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._tell(event["type"], event["object"])

    def _tell(self, kind: str, body: Body) -> None:
        name = body["metadata"]["name"]
        if kind == "DELETED":
            self._known.pop(name, None)
        else:
            self._known[name] = body
        self._see(kind, body)


@dataclass
class Replicas:
    """How many replicas the Deployments of each target ask for, and every change of that with its moment.

    A target may have several Deployments (one for each version of its template): their sum counts.
    """

    label: str
    _names: dict[str, tuple[str, int]] = field(default_factory=dict)
    _changes: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def see(self, kind: str, body: Body) -> None:
        now = time.monotonic()
        name, target = body["metadata"]["name"], body["metadata"].get("labels", {}).get(self.label)
        if target is None:
            return
        with self._changed:
            before = self._sum(target)
            if kind == "DELETED":
                self._names.pop(name, None)
            else:
                self._names[name] = (target, int(body["spec"].get("replicas", 0)))
            if self._sum(target) != before:
                self._changes.setdefault(target, []).append((now, self._sum(target)))
                self._changed.notify_all()

    def now(self, target: str) -> int:
        with self._changed:
            return self._sum(target)

    def mark(self, target: str) -> int:
        """Where the list of changes stands, for `reach`."""
        with self._changed:
            return len(self._changes.get(target, []))

    def reach(self, target: str, wanted: int, mark: int, timeout: float) -> tuple[float, int] | None:
        """The first moment (monotonic) after `mark` at which `wanted` was asked for, and the changes until then."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                later = self._changes.get(target, [])[mark:]
                for number, (moment, replicas) in enumerate(later, start=1):
                    if replicas == wanted:
                        return moment, number
                if (left := deadline - time.monotonic()) <= 0:
                    return None
                self._changed.wait(left)

    def _sum(self, target: str) -> int:
        return sum(replicas for owner, replicas in self._names.values() if owner == target)


@dataclass
class Departures:
    """When each pod of a namespace was told to go: the moment at which its deletion was seen."""

    moments: dict[str, datetime] = field(default_factory=dict)

    def see(self, kind: str, body: Body) -> None:
        name = body["metadata"]["name"]
        if "deletionTimestamp" in body["metadata"] or kind == "DELETED":
            self.moments.setdefault(name, datetime.now(UTC))
