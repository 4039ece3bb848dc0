"""What goes into an image, as a key: unchanged key, no new build.

Owns reading a Dockerfile's COPY sources and .dockerignore, and hashing the files that the image really takes. Only
those count: a change in a folder that no COPY names must not cost a rebuild. When it cannot tell (a variable in a
source), the whole context counts. Pure but for reading files; it must not run a builder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_ALWAYS_IGNORED = ("**/.git", "**/.venv", "**/node_modules", "**/__pycache__", "**/*.pyc", "**/.*_cache")


@dataclass(frozen=True)
class BuildRequest:
    """An image to build."""

    tag: str
    dockerfile: Path
    context: Path
    args: Mapping[str, str] = field(default_factory=dict)


class IgnoreRules:
    """Docker's ignore patterns: the last one that matches a path or a folder above it decides."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = [*_ALWAYS_IGNORED, *patterns]
        self._rules = [(_pattern_regex(pattern.lstrip("!")), pattern.startswith("!")) for pattern in self.patterns]

    @classmethod
    def read(cls, context: Path) -> IgnoreRules:
        file = context / ".dockerignore"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return cls([line.strip() for line in lines if line.strip() and not line.startswith("#")])

    def ignores(self, path: str) -> bool:
        ignored = False
        for regex, kept in self._rules:
            if regex.match(path):
                ignored = not kept
        return ignored

    def may_keep_below(self, path: str) -> bool:
        """Whether an ignored folder must be entered all the same, because a later `!` pattern may keep something in
        it.
        """
        return not self.ignores(path) or any(kept for _, kept in self._rules)


def make_build_key(request: BuildRequest, base_id: str) -> str:
    """A hash of the Dockerfile, its arguments, its base image and every file that it copies."""
    digest = hashlib.sha256()
    text = request.dockerfile.read_text(encoding="utf-8")
    digest.update(json.dumps([text, sorted(request.args.items()), base_id]).encode())
    rules = IgnoreRules.read(request.context)
    for path in sorted(set(_copied_files(request.context, copy_sources(text), rules))):
        full = request.context / path
        content = os.readlink(full).encode() if full.is_symlink() else full.read_bytes()
        digest.update(f"{path}\0{full.lstat().st_mode & 0o111}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def copy_sources(dockerfile: str) -> list[str]:
    """The sources of all COPY and ADD lines that take files from the context; ["."] when they cannot be told."""
    sources: list[str] = []
    for line in re.sub(r"\\\s*\n", " ", dockerfile).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction.upper() not in ("COPY", "ADD") or "--from=" in rest:
            continue
        rest = re.sub(r"^\s*(--\S+\s+)*", "", rest)
        words = json.loads(rest) if rest.startswith("[") else rest.split()
        sources.extend(words[:-1])
    return ["."] if any("$" in source or "<<" in source for source in sources) else sources


def _copied_files(context: Path, sources: Sequence[str], rules: IgnoreRules) -> Iterator[str]:
    for source in sources:
        pattern = os.path.normpath(source).lstrip("/")
        for found in [context] if pattern == "." else context.glob(pattern):
            if found.is_dir() and not found.is_symlink():
                yield from _files_below(context, found, rules)
            else:
                yield found.relative_to(context).as_posix()


def _files_below(context: Path, top: Path, rules: IgnoreRules) -> Iterator[str]:
    for folder, names, files in os.walk(top):
        relative = Path(folder).relative_to(context)
        names[:] = [name for name in names if rules.may_keep_below((relative / name).as_posix())]
        for file in files:
            path = (relative / file).as_posix()
            if not rules.ignores(path):
                yield path


def _pattern_regex(pattern: str) -> re.Pattern[str]:
    """`**` crosses folders, `*` and `?` do not; a match of a folder is a match of all below it."""
    parts = re.split(r"(\*\*/?|\*|\?)", pattern.strip("/"))
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(translated.get(part, re.escape(part)) for part in parts) + "(?:/.*)?$")
