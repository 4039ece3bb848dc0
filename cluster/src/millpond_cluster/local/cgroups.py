"""The cluster's own control group: every container and shim of its node lives below it.

Owns creating that group, telling who is in it, and removing it. This is how `down` finds containers whose shim was
killed (they then belong to init and no list of pids knows them) without ever looking at a process's name. Works for
cgroup v1 (one folder in every hierarchy) and v2; a group that cannot be removed because something still lives in it
raises no error: `up` clears it again.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from millpond_cluster.local.processes import ProcessId, read_process

_RUNTIME = "runtime"
_INHERITED = ("cpuset.mems", "cpuset.cpus")  # empty in a new v1 group, and nothing may join it until they are set


def make_group_name(cluster: str) -> str:
    return f"millpond-{cluster}"


def ensure_group(cluster: str) -> Path:
    """Creates the group in every hierarchy and returns the folder that containerd (and so every shim) is to join."""
    for mount in _hierarchies():
        group = mount / make_group_name(cluster)
        group.mkdir(exist_ok=True)
        for file in _INHERITED:
            _inherit(group / file, mount / file)
    runtime = _main_hierarchy() / make_group_name(cluster) / _RUNTIME
    runtime.mkdir(exist_ok=True)
    return runtime


def read_members(cluster: str) -> list[ProcessId]:
    """Every process in the group or below it."""
    pids: set[int] = set()
    for file in (_main_hierarchy() / make_group_name(cluster)).rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            pids.update(int(line) for line in file.read_text().split())
    return [process for pid in pids if (process := read_process(pid)) is not None]


def remove_group(cluster: str) -> None:
    """Removes the empty group and all below it, children first.

    A process that was just killed may hold it for a moment.
    """
    deadline = time.monotonic() + 2.0
    mounts = [*_mounts("cgroup"), *_mounts("cgroup2")]  # runc also uses a v2 one that lies beside v1 hierarchies
    tops = [mount / make_group_name(cluster) for mount in mounts]
    while (tops := [top for top in tops if top.exists()]) and time.monotonic() < deadline:
        for top in tops:
            _remove_below(top)
        time.sleep(0.02)


def _remove_below(top: Path) -> None:
    folders = [path for path in top.rglob("*") if path.is_dir()]
    for folder in [*sorted(folders, key=lambda path: len(path.parts), reverse=True), top]:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _inherit(own: Path, parent: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not own.read_text().strip():
            own.write_text(parent.read_text())


def _mounts(kind: str) -> list[Path]:
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return [Path(fields[1]) for line in lines if (fields := line.split())[2] == kind]


def _hierarchies() -> list[Path]:
    """Where control groups are mounted: v1 hierarchies if there are any, else the one of v2."""
    return _mounts("cgroup") or _mounts("cgroup2")


def _main_hierarchy() -> Path:
    hierarchies = _hierarchies()
    return next((path for path in hierarchies if "pids" in path.name.split(",")), hierarchies[0])
