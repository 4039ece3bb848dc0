"""Running other programs to their end.

Owns how a command is run, captured and reported when it fails; it must not start anything that outlives the call
(local/processes.py does that). A failing command raises CommandFailed with its last lines.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from millpond_cluster.errors import CommandFailed


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    check: bool = True,
) -> str:
    """Runs `argv` and returns what it printed to stdout; its stderr is shown only when it fails."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, env=_merge(env), cwd=cwd, input=stdin, capture_output=True, text=True, errors="replace", check=False
    )
    if check and done.returncode != 0:
        raise CommandFailed(words, done.returncode, done.stdout + done.stderr)
    return done.stdout


def run_lines(
    argv: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Runs a long command, its whole output going to `log` and line by line to `on_line`."""
    words = [str(word) for word in argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    recent: list[str] = []
    with (
        log.open("w", encoding="utf-8") as sink,
        subprocess.Popen(
            words,
            env=_merge(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            sink.write(line)
            recent = [*recent[-40:], line]
            on_line(line.rstrip())
    if process.returncode != 0:
        raise CommandFailed(words, process.returncode, "".join(recent) + f"(all of it: {log})")


def _merge(env: Mapping[str, str] | None) -> dict[str, str] | None:
    return {**os.environ, **env} if env is not None else None
