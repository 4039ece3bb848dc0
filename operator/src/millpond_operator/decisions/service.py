"""How long tasks take lately, from what heartbeats count: pure.

Owns the mean over the last minutes. A heartbeat tells totals since its process began; what a worker did since its last
one counts, and older work fades with a half-life. A restarted process (another incarnation) begins at zero again.
"""

from dataclasses import dataclass, field

HALF_LIFE = 120.0
"""Seconds in which what was measured loses half of its weight: long beside most tasks, short beside a new release."""


@dataclass
class ServiceMeter:
    """The mean service time of one pool (or of one class of it). Mutable: the observer fills it."""

    _tasks: float = 0.0
    _seconds: float = 0.0
    _at: float = 0.0
    _known: dict[str, tuple[str, int, float]] = field(default_factory=dict)

    def note(self, process: tuple[str, str], tasks: int, seconds: float, now: float) -> None:
        """The process (worker, incarnation) has ended `tasks` in `seconds` since it began."""
        worker, incarnation = process
        known = self._known.get(worker)
        if known == (incarnation, tasks, seconds):
            return
        self._known[worker] = (incarnation, tasks, seconds)
        before = known[1:] if known and known[0] == incarnation else (0, 0.0)
        more = tasks - before[0]
        if more <= 0:
            return
        fade = 0.5 ** (max(0.0, now - self._at) / HALF_LIFE)
        self._tasks = self._tasks * fade + more
        self._seconds = self._seconds * fade + max(0.0, seconds - before[1])
        self._at = now

    def keep(self, workers: set[str]) -> None:
        """Forget the totals of workers that are gone; their work still counts."""
        for worker in self._known.keys() - workers:
            del self._known[worker]

    @property
    def mean(self) -> float | None:
        """Seconds a task; None until one has ended."""
        return self._seconds / self._tasks if self._tasks > 0 else None
