"""A kind followed by list and watch, so that what is shown is what the API server holds, without polling.

Owns the loop list → watch → (410 or a broken connection) → list again. Its one hard problem is that a watch may end at
any moment and then events are missed: every list comes as one `Sync` that replaces all that was known, so an object
that vanished meanwhile vanishes here too. It survives an API server that restarts: it says `Down` once and goes on
trying until `stop` is set. It must not interpret the objects.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from millpond_cli.cluster import Cluster, Object, Request
from millpond_cli.errors import Expired, Unreachable, refusal

WATCH_SECONDS = 50
"""A watch is renewed after this long, so that a connection that died silently is noticed within a minute."""
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0)
"""Waits between attempts to reach the server again; the last one repeats."""


@dataclass(frozen=True)
class Query:
    """What to follow: a kind, in one namespace or everywhere, perhaps narrowed by a selector or to one name."""

    plural: str
    everywhere: bool = False
    label_selector: str = ""
    name: str = ""

    def parameters(self) -> dict[str, str]:
        """The query parameters that narrow the list."""
        chosen = {"labelSelector": self.label_selector, "fieldSelector": self.name and f"metadata.name={self.name}"}
        return {key: value for key, value in chosen.items() if value}


@dataclass(frozen=True)
class Sync:
    """Everything that exists now: replace what you knew."""

    plural: str
    items: list[Object]


@dataclass(frozen=True)
class Set:
    """One object was added or changed."""

    plural: str
    item: Object


@dataclass(frozen=True)
class Gone:
    """One object was deleted."""

    plural: str
    item: Object


@dataclass(frozen=True)
class Down:
    """The server cannot be reached for now; the loop goes on trying."""

    plural: str
    message: str


Change = Sync | Set | Gone | Down


@dataclass(frozen=True)
class _Seen:
    """One line of a watch: its change (None for a bookmark) and the version to go on from."""

    change: Change | None
    version: str


def follow(cluster: Cluster, query: Query, stop: threading.Event) -> Iterator[Change]:
    """Changes of the kind from now on, beginning with a `Sync`. Refusals (403, unknown kind) are raised."""
    failures = 0
    version = ""
    while not stop.is_set():
        try:
            if not version:
                listing = cluster.list(query.plural, query.everywhere, query.parameters())
                version = listing.version
                yield Sync(query.plural, listing.items)
            for seen in _watch(cluster, query, version):
                version = seen.version
                if seen.change:
                    yield seen.change
                if stop.is_set():
                    return
            failures = 0
        except Expired:
            version = ""
        except Unreachable as error:
            yield Down(query.plural, str(error))
            stop.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures, version = failures + 1, ""


def _watch(cluster: Cluster, query: Query, version: str) -> Iterator[_Seen]:
    """What one watch request says, until the server ends it."""
    parameters = {
        **query.parameters(),
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(WATCH_SECONDS),
    }
    path = cluster.path(query.plural, everywhere=query.everywhere)
    request = Request("GET", path, query.plural, parameters, read_seconds=WATCH_SECONDS + 15.0)
    for line in cluster.lines(request):
        event = orjson.loads(line)
        item: Object = event["object"]
        if event["type"] == "ERROR":
            raise refusal(int(item.get("code", 500)), orjson.dumps(item), query.plural)
        change = None
        if event["type"] != "BOOKMARK":
            change = (Gone if event["type"] == "DELETED" else Set)(query.plural, item)
        yield _Seen(change, item["metadata"]["resourceVersion"])
