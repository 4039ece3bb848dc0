"""An environment for each contender, made from its lock file into the cache, outside the work tree, once.

Keyed by the lock's hash, so that a changed lock makes a new one. It survives an interrupted installation: the folder
gets its name only when it is complete.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from millpond_cluster.paths import cache_root

from bench.queue.contenders import Contender

PEERS = Path(__file__).parent / "peers"


def find_python(contender: Contender) -> str:
    """The interpreter that runs a contender's program."""
    return (
        str(find_environment(contender.requirements) / "bin" / "python") if contender.requirements else sys.executable
    )


def find_environment(requirements: str) -> Path:
    """The folder of the environment that this lock file describes, made when it is first asked for."""
    lock = PEERS / "requirements" / f"{requirements}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    folder = cache_root() / "bench" / f"{requirements}-{digest}"
    if not folder.exists():
        _make(folder, lock)
    return folder


def read_version(contender: Contender) -> str:
    """`name version` of what the lock pins, such as `arq 0.28.0`."""
    if not contender.requirements:
        return ""
    lock = (PEERS / "requirements" / f"{contender.requirements}.txt").read_text(encoding="utf-8")
    wanted = {"taskiq": "taskiq-nats"}.get(contender.requirements, contender.requirements)
    return next(line.replace("==", " ") for line in lock.splitlines() if line.startswith(f"{wanted}=="))


def _make(folder: Path, lock: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if not uv:
        raise FileNotFoundError("no uv to make the peers' environments with: run `make bench-queue`, which brings one")
    unfinished = folder.with_name(folder.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Relocatable: it is made under another name than it gets.
    subprocess.run([uv, "venv", "--quiet", "--relocatable", "--python", python, str(unfinished)], check=True)
    install = [uv, "pip", "sync", "--quiet", "--python", str(unfinished / "bin" / "python"), str(lock)]
    subprocess.run(install, check=True)
    unfinished.rename(folder)
