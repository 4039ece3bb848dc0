"""Host processes that outlive the command that started them.

Owns starting a component detached (its own session, its output into a log file), telling whether it still runs, and
stopping exactly it. A process is known by pid, start time and boot: a pid that was reused belongs to somebody else
and is never signalled. Nothing here looks for processes by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_FIELDS_BEFORE_START_TIME = 19  # after "pid (comm) ", which may itself hold spaces and brackets
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# The process writes its own identity and joins its own cgroup before it becomes the program: whoever is killed in
# between, there is never a running component that no file names.
_BECOME = """
if [ -n "$2" ]; then echo $$ > "$2" || exit 1; fi
cat /proc/$$/stat "$3" > "$1.new" && mv "$1.new" "$1" || exit 1
shift 3
exec "$@"
"""


@dataclass(frozen=True)
class ProcessId:
    """One process of one boot."""

    pid: int
    started: str


def read_process(pid: int) -> ProcessId | None:
    """The identity of a running process; None when there is none or only its zombie is left."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # reaps it if it is our own child, as in a test that restarts components
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        boot = _BOOT_ID.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    if stat.rpartition(")")[2].split()[0] in ("Z", "X") and not _has_threads(pid):
        return None
    return ProcessId(pid, f"{boot[:8]}:{_start_ticks(stat)}")


def _has_threads(pid: int) -> bool:
    """Whether threads are still ending behind a main thread that already has: until then its ports are taken."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def is_alive(process: ProcessId | None) -> bool:
    return process is not None and read_process(process.pid) == process


def read_pid_file(file: Path) -> ProcessId | None:
    """The process that wrote `file`, if it still runs."""
    try:
        stat, boot = file.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ValueError):
        return None
    recorded = ProcessId(int(stat.split()[0]), f"{boot[:8]}:{_start_ticks(stat)}")
    return recorded if is_alive(recorded) else None


def spawn(argv: Sequence[str], pid_file: Path, log: Path, cgroup: Path | None = None) -> ProcessId | None:
    """Starts `argv` detached and returns when its pid file is written; None when it ended at once (its log says why).

    With a cgroup it joins that one first, and so will all its children.
    """
    for folder in (log.parent, pid_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    pid_file.unlink(missing_ok=True)
    group = str(cgroup / "cgroup.procs") if cgroup is not None else ""
    words = ["/bin/sh", "-c", _BECOME, "sh", str(pid_file), group, str(_BOOT_ID), *argv]
    with log.open("ab") as sink:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, cwd="/", close_fds=True
        )
    child.returncode = 0  # it is meant to outlive us: no warning when this handle is dropped
    while read_process(child.pid) is not None and not pid_file.exists():
        time.sleep(0.005)
    return read_pid_file(pid_file)


def stop(processes: Iterable[ProcessId], grace: float = 5.0) -> None:
    """SIGTERM to all, SIGKILL to those that are still there after `grace` seconds; returns when none is left."""
    remaining = _signal(processes, signal.SIGTERM)
    remaining = _wait(remaining, grace)
    kill(remaining)


def kill(processes: Iterable[ProcessId]) -> None:
    """SIGKILL, and waits until they are gone."""
    _wait(_signal(processes, signal.SIGKILL), 10.0)


def _signal(processes: Iterable[ProcessId], number: int) -> list[ProcessId]:
    alive = [process for process in processes if is_alive(process)]
    for process in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
    return alive


def _wait(processes: list[ProcessId], seconds: float) -> list[ProcessId]:
    deadline = time.monotonic() + seconds
    while (processes := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return processes


def _start_ticks(stat: str) -> str:
    return stat.rpartition(")")[2].split()[_FIELDS_BEFORE_START_TIME]
