"""Who is admitted next to a queue that was full: pure.

Owns the line of one pool: the oldest Task first, whatever order they are heard of in. Only its head tries; the others
wait for their turn, so a full queue of a thousand Pending tasks costs one request a second and not a thousand.
"""

import heapq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key")
Age = tuple[str, int]
"""Creation time (to the second, as Kubernetes has it), then the order in which they were seen."""


@dataclass
class Line(Generic[Key]):
    """Tasks that wait for room."""

    _ages: dict[Key, Age] = field(default_factory=dict)
    _heap: list[tuple[Age, int, Key]] = field(default_factory=list)
    _joined: int = 0

    def __len__(self) -> int:
        return len(self._ages)

    def join(self, key: Key, age: Age) -> None:
        """Wait; a task that waits already keeps its turn."""
        if key not in self._ages:
            self._joined += 1
            self._ages[key] = age
            heapq.heappush(self._heap, (age, self._joined, key))

    def leave(self, key: Key) -> bool:
        """No longer wait (admitted, cancelled, gone); whether it was the head, so that another one is now."""
        was_head = key == self.head()
        self._ages.pop(key, None)
        return was_head

    def head(self) -> Key | None:
        """Whose turn it is."""
        while self._heap and self._ages.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def may_try(self, key: Key, age: Age) -> bool:
        """Whether nobody older waits."""
        head = self.head()
        return head is None or head == key or (key not in self._ages and age < self._ages[head])
