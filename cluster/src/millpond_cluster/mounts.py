"""Unmounting what a killed process left mounted.

Owns that one thing. It never touches a mount point that does not lie below the folder it is given, and it must be
called before such a folder is removed: removing files through a mount would remove somebody else's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from pathlib import Path

_MNT_DETACH = 2


def unmount_below(root: Path) -> None:
    """Unmounts everything mounted below `root`, the deepest first; lazily, because nothing uses it any more."""
    libc = ctypes.CDLL(None, use_errno=True)
    for point in sorted(_mounts_below(root), key=len, reverse=True):
        libc.umount2(os.fsencode(point), _MNT_DETACH)


def _mounts_below(root: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
        return [point for point in points if point.startswith(f"{root}/")]
    return []


def remove_tree(root: Path) -> None:
    """Removes `root`, after everything mounted below it was unmounted."""
    unmount_below(root)
    shutil.rmtree(root, ignore_errors=True)
