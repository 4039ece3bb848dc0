"""Progress for a person: one line when a step begins, one when it ends, and a sign of life while it runs.

Owns what is printed while work is going on (to stderr: stdout carries only results); it must not decide anything.
Steps may run side by side in threads. The same lines look right in a terminal and in a log without one: a terminal
gets a status line in addition, a log gets a heartbeat every 20 s, because a cold Go build says nothing for minutes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status

HEARTBEAT_SECONDS = 20.0


def format_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@dataclass
class Step:
    """A running step; `detail` may be set by the one who does the work and is shown with the heartbeat."""

    title: str
    began: float
    detail: str = ""
    announced: float = field(default=0.0)

    def describe(self, now: float) -> str:
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.title} ({format_seconds(now - self.began)}{detail})"


class Reporter:
    """Prints steps as they begin, go on and end; safe to use from several threads."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self._status: Status | None = None
        self._ticker: threading.Thread | None = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Announces `title`, keeps showing it while the body runs, and says how long it took or that it failed."""
        step = Step(title, time.monotonic(), announced=time.monotonic())
        self._begin(step)
        try:
            yield step
        except BaseException:
            self._end(step, "[red]✗[/red]")
            raise
        self._end(step, "[green]✓[/green]")

    def _begin(self, step: Step) -> None:
        with self._lock:
            self._steps.append(step)
            if not self._console.is_terminal:
                self._console.print(f"→ {step.title}", markup=False)
            if self._ticker is None or not self._ticker.is_alive():
                self._ticker = threading.Thread(target=self._tick, daemon=True)
                self._ticker.start()

    def _end(self, step: Step, mark: str) -> None:
        with self._lock:
            self._steps.remove(step)
            if not self._steps and self._status is not None:
                self._status.stop()
                self._status = None
            self._console.print(mark, end=" ")
            self._console.print(step.describe(time.monotonic()), markup=False)

    def _tick(self) -> None:
        while True:
            with self._lock:
                if not self._steps:
                    return
                now = time.monotonic()
                if self._console.is_terminal:
                    self._show_status(" · ".join(step.describe(now) for step in self._steps))
                else:
                    self._beat(now)
            time.sleep(0.25)

    def _show_status(self, text: str) -> None:
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    def _beat(self, now: float) -> None:
        for step in self._steps:
            if now - step.announced >= HEARTBEAT_SECONDS:
                step.announced = now
                self._console.print(f"… {step.describe(now)}", markup=False)
