"""One at a time: file locks that end with their holder.

Owns mutual exclusion between invocations (of `up`, of a build). It uses flock, so a lock never survives a SIGKILL of
its holder and nothing has to be cleaned up; it must not be used to record state.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from millpond_cluster.report import Reporter


@contextmanager
def hold(path: Path, reporter: Reporter, what: str) -> Iterator[None]:
    """Holds the lock at `path`; when another process has it, says so and waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            with reporter.step(f"wait for process {holder}, which is busy with {what}"):
                fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
