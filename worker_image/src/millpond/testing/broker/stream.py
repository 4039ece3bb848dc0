"""One stream: what it takes, what it refuses, what it forgets, and whom it tells.

Owns the order of the checks of a publish (compare-and-set, then duplicates, then schedules and limits), which was
measured on nats-server 2.15. Survives a consumer or another stream that goes: it only calls those that are registered.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from millpond.testing.broker.store import Entry, Store
from millpond.testing.broker.wire import NANOSECONDS, Refusal, matches, parse_duration

DEFAULTS: dict[str, Any] = {
    "subjects": [],
    "retention": "limits",
    "max_consumers": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "discard": "old",
    "storage": "file",
    "num_replicas": 1,
    "duplicate_window": 120 * NANOSECONDS,
    "compression": "none",
    "allow_direct": False,
    "mirror_direct": False,
    "sealed": False,
    "deny_delete": False,
    "deny_purge": False,
    "allow_rollup_hdrs": False,
    "consumer_limits": {},
    "allow_msg_ttl": False,
}
"""What nats-server fills in."""
_UNLIMITED = ("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")


class Watcher(Protocol):
    """What hears of a stream's messages: a consumer, or a stream that sources it."""

    def on_stored(self, entry: Entry) -> None: ...

    def on_removed(self, entry: Entry) -> None: ...


class Surroundings(Protocol):
    """What a stream needs of its server."""

    def nanoseconds(self) -> int: ...

    def after(self, seconds: float, call: Callable[[], None]) -> Any: ...

    def soon(self, call: Callable[[], None]) -> None: ...

    def republish(self, stream: "Stream", entry: Entry, previous: int) -> None: ...


def full_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as the server keeps it."""
    config = DEFAULTS | {name: value for name, value in given.items() if value not in (None, "", [])}
    for name in _UNLIMITED:
        config[name] = config[name] or -1
    if config.get("allow_msg_schedules"):
        config["allow_rollup_hdrs"] = True
    return config


@dataclass(eq=False)
class Stream:
    """A stream with its messages."""

    config: dict[str, Any]
    around: Surroundings
    created: int
    store: Store = field(default_factory=Store)
    watchers: list[Watcher] = field(default_factory=list)
    _ids: dict[str, tuple[int, int]] = field(default_factory=dict)
    _aging: Any = None

    @property
    def name(self) -> str:
        return str(self.config["name"])

    def takes(self, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in self.config["subjects"])

    def publish(self, subject: str, headers: Mapping[str, str], data: bytes) -> dict[str, object]:
        """Store a client's message and answer as the server does; Refusal says why not."""
        self.check_expected(subject, headers)
        known = self.find_duplicate(headers)
        if known is not None:
            return {"stream": self.name, "seq": known, "duplicate": True}
        self.check_schedule(headers)
        return {"stream": self.name, "seq": self.append(subject, headers, data).sequence}

    def check_expected(self, subject: str, headers: Mapping[str, str]) -> None:
        """The conditions of a publish (ADR-2 and its successors)."""
        if (name := headers.get("Nats-Expected-Stream")) and name != self.name:
            raise Refusal(400, 10060, "expected stream does not match")
        if (text := headers.get("Nats-Expected-Last-Sequence")) is not None and text != str(self.store.last):
            raise Refusal(400, 10071, f"wrong last sequence: {self.store.last}")
        text = headers.get("Nats-Expected-Last-Subject-Sequence")
        if text is not None:
            of = headers.get("Nats-Expected-Last-Subject-Sequence-Subject", subject)
            last = self.store.last_of(of)
            if text != str(last.sequence if last else 0):
                raise Refusal(400, 10071, f"wrong last sequence: {last.sequence if last else 0}")

    def find_duplicate(self, headers: Mapping[str, str]) -> int | None:
        """The sequence under which this message id is known."""
        msg_id = headers.get("Nats-Msg-Id")
        if not msg_id:
            return None
        oldest = self.around.nanoseconds() - int(self.config["duplicate_window"])
        while self._ids and next(iter(self._ids.values()))[1] <= oldest:
            del self._ids[next(iter(self._ids))]
        found = self._ids.get(msg_id)
        return found[0] if found else None

    def check_schedule(self, headers: Mapping[str, str]) -> None:
        """A schedule is refused by a stream that keeps none."""
        if "Nats-Schedule" in headers and not self.config.get("allow_msg_schedules"):
            raise Refusal(400, 10188, "message schedules is disabled")

    def check_room(self, subject: str, headers: Mapping[str, str], data: bytes, more: int = 1) -> None:
        """Whether `more` messages fit, this one among them."""
        if 0 < self.config["max_msg_size"] < len(data):
            raise Refusal(400, 10054, "message size exceeds maximum allowed")
        if "Nats-TTL" in headers and not self.config["allow_msg_ttl"]:
            raise Refusal(400, 10166, "per-message TTL is disabled")
        if self.config["discard"] != "new":
            return
        most = self.config["max_msgs"]
        if most > 0 and len(self.store) + more > most:
            raise Refusal(503, 10077, "maximum messages exceeded")
        each = self.config["max_msgs_per_subject"]
        if self.config.get("discard_new_per_subject") and 0 < each < self.store.count(subject) + more:
            raise Refusal(503, 10077, "maximum messages per subject exceeded")

    def append(self, subject: str, headers: Mapping[str, str], data: bytes, *, sourced: bool = False) -> Entry:
        """Store it (it has passed the checks of who it is), if there is room."""
        if not sourced:
            self.check_room(subject, headers, data)
        elif self.config["discard"] == "new" and 0 < self.config["max_msgs"] <= len(self.store):
            raise Refusal(503, 10077, "maximum messages exceeded")
        self._roll_up(subject, headers)
        previous = self.store.last_of(subject)
        entry = Entry(self.store.last + 1, subject, dict(headers), data, self.around.nanoseconds())
        self.store.add(entry)
        if msg_id := headers.get("Nats-Msg-Id"):
            self._ids[msg_id] = (entry.sequence, entry.at)
        self._limit(subject)
        self._expire_later(entry)
        self.around.republish(self, entry, previous.sequence if previous else 0)
        for watcher in tuple(self.watchers):
            watcher.on_stored(entry)
        return entry

    def remove(self, sequence: int) -> bool:
        """Forget a message; whether it was there."""
        entry = self.store.remove(sequence)
        if entry is None:
            return False
        for watcher in tuple(self.watchers):
            watcher.on_removed(entry)
        return True

    def purge(self, ask: Mapping[str, Any]) -> int:
        """Forget what matches `filter`, below `seq`, but for the last `keep`; how many that were."""
        found = [entry.sequence for entry in self.store.select(ask.get("filter") or ">")]
        if below := ask.get("seq"):
            found = [sequence for sequence in found if sequence < below]
        if keep := ask.get("keep"):
            found = found[: max(0, len(found) - keep)]
        purged = sum(self.remove(sequence) for sequence in found)
        if below and not ask.get("filter"):
            # The next message gets at least this sequence, also in a stream that never had as many.
            self.store.last = max(self.store.last, below - 1)
        return purged

    def _roll_up(self, subject: str, headers: Mapping[str, str]) -> None:
        """A schedule replaces the one before it on its subject; so does a message that asks for it."""
        rollup = headers.get("Nats-Rollup", "")
        if rollup == "all":
            self.purge({})
        elif rollup == "sub" or "Nats-Schedule" in headers:
            self.purge({"filter": subject})

    def _limit(self, subject: str) -> None:
        each, most = self.config["max_msgs_per_subject"], self.config["max_msgs"]
        while each > 0 and self.store.count(subject) > each:
            oldest = self.store.oldest_of(subject)
            assert oldest is not None
            self.remove(oldest.sequence)
        while 0 < most < len(self.store):
            self.remove(self.store.first)
        size = self.config["max_bytes"]
        while 0 < size < self.store.size and len(self.store):
            self.remove(self.store.first)

    def _expire_later(self, entry: Entry) -> None:
        ttl = entry.headers.get("Nats-TTL") if self.config["allow_msg_ttl"] else None
        if ttl and ttl != "never":
            try:
                self.around.after(parse_duration(ttl), lambda: self._forget(entry.sequence))
            except ValueError:
                self.remove(entry.sequence)
                raise Refusal(400, 10165, "invalid per-message TTL") from None
        if self.config["max_age"] and self._aging is None:
            self._aging = self.around.after(self.config["max_age"] / NANOSECONDS, self._age)

    def _forget(self, sequence: int) -> None:
        self.remove(sequence)

    def _age(self) -> None:
        """Forget what is too old, and look again when the next one is."""
        self._aging = None
        limit = self.around.nanoseconds() - int(self.config["max_age"])
        while len(self.store):
            entry = self.store.get(self.store.first)
            assert entry is not None
            if entry.at > limit:
                self._aging = self.around.after((entry.at - limit) / NANOSECONDS, self._age)
                return
            self.remove(entry.sequence)

    def info(self) -> dict[str, Any]:
        """`state` and `config` as in STREAM.INFO."""
        store = self.store
        first, last = store.get(store.first), store.get(store.last)
        state: dict[str, Any] = {
            "messages": len(store),
            "bytes": store.size,
            "first_seq": store.first if store.last else 0,
            "first_ts": first.time if first else "0001-01-01T00:00:00Z",
            "last_seq": store.last,
            "last_ts": last.time if last else "0001-01-01T00:00:00Z",
        }
        if len(store):
            state["num_subjects"] = len(store.subjects(">"))
        if gaps := store.last - store.first + 1 - len(store):
            state["num_deleted"] = gaps
        return {"config": self.config, "state": state}


def encode_answer(answer: Mapping[str, object]) -> bytes:
    return json.dumps(answer).encode()
