"""A stream that takes messages of another one under other subjects, in order and each once.

A full target stalls its source; every message that leaves it lets the next one in.
"""

from typing import Any

from millpond.testing.broker.store import Entry
from millpond.testing.broker.stream import Stream
from millpond.testing.broker.wire import Refusal, transform


class Source:
    """From `origin` into `target`. It watches both."""

    def __init__(self, origin: Stream, target: Stream, config: dict[str, Any]) -> None:
        self._origin, self._target = origin, target
        self._rules = [(rule["src"], rule["dest"]) for rule in config.get("subject_transforms", ())]
        if not self._rules:
            pattern = config.get("filter_subject") or ">"
            self._rules = [(pattern, pattern)]
        self._next = 1
        self._stalled = False

    def start(self) -> None:
        self._origin.watchers.append(self)
        self._target.watchers.append(self)
        self._origin.around.soon(self._pump)

    def stop(self) -> None:
        for stream in (self._origin, self._target):
            if self in stream.watchers:
                stream.watchers.remove(self)

    def on_stored(self, entry: Entry) -> None:
        # The target's own messages come here too; looking once more costs little.
        self._origin.around.soon(self._pump)

    def on_removed(self, entry: Entry) -> None:
        if self._stalled:
            self._origin.around.soon(self._pump)

    def _pump(self) -> None:
        self._stalled = False
        if self not in self._origin.watchers:
            return
        for entry in list(self._origin.store.select(">", self._next)):
            for pattern, dest in self._rules:
                subject = transform(pattern, dest, entry.subject)
                if subject is not None and not self._take(entry, subject, f"{pattern} {dest}"):
                    self._stalled = True
                    return
            self._next = entry.sequence + 1

    def _take(self, entry: Entry, subject: str, rule: str) -> bool:
        mark = f"{self._origin.name} {entry.sequence} {rule} {entry.subject} memory"
        try:
            self._target.append(subject, {**entry.headers, "Nats-Stream-Source": mark}, entry.data, sourced=True)
        except Refusal:
            return False
        return True
