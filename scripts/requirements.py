"""What an image installs: `python requirements.py [--extras] uv.lock a/pyproject.toml … > requirements.txt`.

Owns the way from the lock file to pip: every package that the projects named need, in the version that uv locked, so
that an image holds what was tested and needs no uv. Runs in an image's
build stage, so it uses the standard library alone. It must not resolve anything.
A package locked in several versions (for different platforms) is left to pip.
"""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _name_of(requirement: str) -> str:
    found = _NAME.match(requirement)
    if found is None:
        raise ValueError(f"{requirement!r} is no requirement: it must begin with a package's name")
    return _normal(found.group())


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def find_pins(lock: dict[str, Any]) -> dict[str, str]:
    """Name → version of every package that comes from a registry in exactly one version."""
    locked = [entry for entry in lock["package"] if "registry" in entry.get("source", {})]
    times = Counter(_normal(entry["name"]) for entry in locked)
    return {name: entry["version"] for entry in locked if times[name := _normal(entry["name"])] == 1}


def find_direct(lock: dict[str, Any], projects: list[dict[str, Any]], *, extras: bool = False) -> list[str]:
    """The requirements of the projects, without those that lie in this workspace (the Dockerfile installs them)."""
    ours = {_normal(entry["name"]) for entry in lock["package"] if "registry" not in entry.get("source", {})}
    wanted = {text for project in projects for text in project["project"].get("dependencies", [])}
    if extras:
        groups = (project["project"].get("optional-dependencies", {}) for project in projects)
        wanted |= {text for group in groups for texts in group.values() for text in texts}
    return sorted(text for text in wanted if _name_of(text) not in ours)


def find_needed(lock: dict[str, Any], direct: list[str]) -> set[str]:
    """The names that `direct` leads to through the lock: a change elsewhere in it must not change the image."""
    edges = {
        _normal(entry["name"]): [
            _normal(below["name"])
            for group in (entry.get("dependencies", []), *entry.get("optional-dependencies", {}).values())
            for below in group
        ]
        for entry in lock["package"]
    }
    seen: set[str] = set()
    ahead = [_name_of(text) for text in direct]
    while ahead:
        if (name := ahead.pop()) not in seen:
            seen.add(name)
            ahead.extend(edges.get(name, []))
    return seen


def main(arguments: list[str]) -> int:
    """Print a pin for everything needed, and the direct requirements that have none."""
    extras = "--extras" in arguments
    lock_path, *paths = [Path(argument) for argument in arguments if argument != "--extras"]
    lock = _read(lock_path)
    direct = find_direct(lock, [_read(path) for path in paths], extras=extras)
    pins = find_pins(lock)
    free = [text for text in direct if _name_of(text) not in pins]
    print("\n".join(free + [f"{name}=={pins[name]}" for name in sorted(find_needed(lock, direct)) if name in pins]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
