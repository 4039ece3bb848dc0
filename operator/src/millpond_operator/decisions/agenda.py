"""Which pools are looked at next, and when: pure.

Owns the order of looks that were asked for between two ticks. Pools at zero come first, equals in the order in which
they asked; a pool that was just looked at waits its `spacing`, so that a busy queue costs no more than a quiet one.
It holds one entry a pool, however often the pool asks. It knows nothing of what a look is.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)


class _Asked(NamedTuple):
    """When it may be looked at, and its place in the order."""

    due: float
    number: int


@dataclass
class Agenda(Generic[Key]):
    """`ask` for a look, `take` what is due. Times in seconds on any steady clock.

    `gather` is waited before the first look, so that one look sees a whole burst; `spacing` between two of one pool.
    """

    gather: float = 0.01
    spacing: float = 0.2
    _asked: dict[Key, _Asked] = field(default_factory=dict)
    _looked: dict[Key, float] = field(default_factory=dict)
    _number: int = 0

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, key: Key, now: float) -> None:
        """The pool wants to be looked at; asking again moves nothing."""
        if key in self._asked:
            return
        looked = self._looked.get(key)
        due = now + self.gather
        self._asked[key] = _Asked(due if looked is None else max(due, looked + self.spacing), self._number)
        self._number += 1

    def take(self, now: float, urgent: Callable[[Key], bool]) -> list[Key]:
        """All pools that are due, the urgent ones first; they count as looked at now."""
        due = [key for key, asked in self._asked.items() if asked.due <= now]
        due.sort(key=lambda key: (not urgent(key), self._asked[key].number))
        for key in due:
            del self._asked[key]
        self._looked = {key: at for key, at in self._looked.items() if now - at < self.spacing}
        self._looked |= dict.fromkeys(due, now)
        return due

    def next_due(self) -> float | None:
        """When there is something to take; None when nobody asked."""
        return min((asked.due for asked in self._asked.values()), default=None)

    def forget(self, key: Key) -> None:
        """The pool is gone."""
        self._asked.pop(key, None)
        self._looked.pop(key, None)
