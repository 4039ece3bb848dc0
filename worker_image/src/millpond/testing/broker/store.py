"""The messages of one stream in order, by sequence and by subject. It decides nothing about what may be stored."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from millpond.testing.broker.wire import is_literal, matches


@dataclass(slots=True, frozen=True)
class Entry:
    """A stored message; `at` in nanoseconds since the epoch."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    data: bytes
    at: int

    @property
    def time(self) -> str:
        return timestamp(self.at)

    @property
    def size(self) -> int:
        """As a file store counts it: 22 bytes of its own, and 4 more with headers (server/filestore.go)."""
        if not self.headers:
            return 22 + len(self.subject) + len(self.data)
        lines = sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        return 26 + len(self.subject) + len("NATS/1.0\r\n\r\n") + lines + len(self.data)


def timestamp(at: int) -> str:
    """RFC 3339 with nanoseconds, trailing zeros left out as Go does."""
    seconds, rest = divmod(at, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


@dataclass
class Store:
    """Entries by sequence. `last` is the highest sequence ever given."""

    last: int = 0
    size: int = 0
    _entries: dict[int, Entry] = field(default_factory=dict)
    _subjects: dict[str, dict[int, None]] = field(default_factory=dict)
    _first: int = 1

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Oldest first."""
        return iter(list(self._entries.values()))

    @property
    def first(self) -> int:
        """The lowest sequence that is there; after the last one when nothing is."""
        while self._first <= self.last and self._first not in self._entries:
            self._first += 1
        return self._first

    def add(self, entry: Entry) -> None:
        self._entries[entry.sequence] = entry
        self._subjects.setdefault(entry.subject, {})[entry.sequence] = None
        self.last = entry.sequence
        self.size += entry.size

    def get(self, sequence: int) -> Entry | None:
        return self._entries.get(sequence)

    def remove(self, sequence: int) -> Entry | None:
        entry = self._entries.pop(sequence, None)
        if entry is not None:
            line = self._subjects[entry.subject]
            del line[sequence]
            if not line:
                del self._subjects[entry.subject]
            self.size -= entry.size
        return entry

    def subjects(self, pattern: str) -> dict[str, int]:
        """How many messages each matching subject has."""
        if is_literal(pattern):
            return {pattern: len(self._subjects[pattern])} if pattern in self._subjects else {}
        return {subject: len(line) for subject, line in self._subjects.items() if matches(pattern, subject)}

    def count(self, pattern: str) -> int:
        return sum(self.subjects(pattern).values())

    def last_of(self, subject: str) -> Entry | None:
        """The last message of a subject, or of a pattern."""
        line = self._subjects.get(subject)
        if line:
            return self._entries[next(reversed(line))]
        if is_literal(subject):
            return None
        lasts = [next(reversed(self._subjects[found])) for found in self.subjects(subject)]
        return self._entries[max(lasts)] if lasts else None

    def oldest_of(self, subject: str) -> Entry | None:
        line = self._subjects.get(subject)
        return self._entries[next(iter(line))] if line else None

    def select(self, pattern: str, since: int = 1) -> Iterator[Entry]:
        """Matching entries from a sequence on, oldest first."""
        if is_literal(pattern):
            line = list(self._subjects.get(pattern, ()))
            yield from (self._entries[sequence] for sequence in line if sequence >= since)
            return
        for sequence in range(max(since, self.first), self.last + 1):
            entry = self._entries.get(sequence)
            if entry is not None and (pattern == ">" or matches(pattern, entry.subject)):
                yield entry

    def next_of(self, pattern: str, since: int) -> Entry | None:
        return next(self.select(pattern, since), None)

    def since(self, at: int) -> int:
        """The first sequence that was stored at or after `at` (nanoseconds); after the last one when none was."""
        return next((entry.sequence for entry in self._entries.values() if entry.at >= at), self.last + 1)
