"""A gate that handlers wait at (tests.support.worker_app): who has come, and letting them go on.

Owns a directory that test and worker processes share: handlers append to `runs` and wait for `open`. It must not know
who runs the workers. A worker that was killed leaves its line: what has begun is never forgotten.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.support.eventually import eventually, eventually_sync

PATIENCE = 120.0
"""Seconds for runs to begin: an interpreter may take many of them to start on a shared machine."""
LOOK = 0.1


@dataclass
class Gate:
    """What the `gate` handlers wait at."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> "Gate":
        directory.mkdir()
        return cls(directory)

    @property
    def path(self) -> str:
        return str(self.directory)

    def open(self) -> None:
        (self.directory / "open").touch()

    def runs(self) -> list[str]:
        """`worker task attempt` of each run that has begun."""
        runs = self.directory / "runs"
        return runs.read_text().splitlines() if runs.exists() else []

    async def entered(self, times: int = 1, timeout: float = PATIENCE) -> list[str]:
        """The runs, once there are that many."""
        await eventually(lambda: len(self.runs()) >= times, timeout, f"{times} runs at the gate")
        return self.runs()

    def entered_sync(self, times: int = 1, timeout: float = PATIENCE) -> list[str]:
        """The same for code without an event loop."""
        eventually_sync(lambda: len(self.runs()) >= times, timeout, f"{times} runs at the gate", LOOK)
        return self.runs()
