"""Building images with whatever is on the machine: a Docker engine, or buildah where there is none.

Owns the choice, the two command lines, and the rule "same inputs, same image: no build". It must not know clusters.
buildah keeps its images in a store of its own below the cache, with the overlay driver where the file system allows
it (vfs copies the whole image for every layer). The environment's pip settings reach RUN lines for as long as they
run, and never a layer.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from millpond_cluster.build.context import BuildRequest, IgnoreRules, make_build_key
from millpond_cluster.build.debian import find_program
from millpond_cluster.locks import hold
from millpond_cluster.paths import cache_root
from millpond_cluster.report import Reporter
from millpond_cluster.shell import run, run_lines

_CERTIFICATES = Path("/etc/ssl/certs")
_MAX_UNTAGGED = 20  # two for each build: some 10 builds, 2 to 3 GB
_PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT")


class Builder(Protocol):
    """A place where images are built and kept."""

    def image_id(self, tag: str) -> str | None:
        """The id of a local image; None when there is none of that name."""

    def build(self, request: BuildRequest, reporter: Reporter) -> None:
        """Builds and tags; raises CommandFailed with the last lines of the build."""

    def export(self, tag: str, archive: Path, name: str) -> None:
        """Writes the image to an archive that containerd imports as `name`."""


@functools.cache
def has_docker_engine() -> bool:
    """A docker client without an engine is no engine: only `docker info` tells."""
    docker = find_program("docker")
    if docker is None or os.environ.get("MILLPOND_CLUSTER_ENGINE") == "none":
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def make_builder() -> Builder:
    return DockerBuilder() if has_docker_engine() else BuildahBuilder()


def ensure_image(builder: Builder, request: BuildRequest, reporter: Reporter) -> bool:
    """Builds unless the tag already holds the image of exactly these inputs; tells whether it built."""
    mark = hashlib.sha256(request.tag.encode()).hexdigest()[:16]
    record = cache_root() / "builds" / f"{mark}.json"
    with hold(cache_root() / "locks" / f"image-{mark}.lock", reporter, f"building {request.tag}"):
        base = builder.image_id(request.args["BASE_IMAGE"]) if "BASE_IMAGE" in request.args else None
        key = make_build_key(request, base or "")
        if _read_record(record) == {"key": key, "id": builder.image_id(request.tag)}:
            return False
        with reporter.step(f"build image {request.tag}"):
            builder.build(request, reporter)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"key": key, "id": builder.image_id(request.tag)}), encoding="utf-8")
        return True


def _read_record(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _build_log(tag: str) -> Path:
    return cache_root() / "logs" / f"image-{tag.replace('/', '_').replace(':', '_')}.log"


class DockerBuilder:
    """The ordinary client of a Docker engine."""

    def image_id(self, tag: str) -> str | None:
        return run(["docker", "image", "inspect", "--format", "{{.Id}}", tag], check=False).strip() or None

    def build(self, request: BuildRequest, reporter: Reporter) -> None:
        args = [word for key, value in request.args.items() for word in ("--build-arg", f"{key}={value}")]
        argv = ["docker", "build", "--tag", request.tag, "--file", str(request.dockerfile), *args, str(request.context)]
        run_lines(argv, lambda _line: None, log=_build_log(request.tag))

    def export(self, tag: str, archive: Path, name: str) -> None:
        run(["docker", "save", "--output", archive, tag])


class BuildahBuilder:
    """buildah with a private store, without namespaces of its own (chroot isolation), on the host's network."""

    def __init__(self) -> None:
        self._store = cache_root() / "buildah"

    def image_id(self, tag: str) -> str | None:
        if find_program("buildah") is None:
            return None
        return (
            self.buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", tag, check=False).strip() or None
        )

    def build(self, request: BuildRequest, reporter: Reporter) -> None:
        with _scratch() as scratch:
            ignore = scratch / "ignore"
            ignore.write_text("\n".join(IgnoreRules.read(request.context).patterns) + "\n", encoding="utf-8")
            argv = ["build", "--isolation", "chroot", "--network", "host", "--layers", "--ignorefile", str(ignore)]
            argv += ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro", *_make_pip_volumes(scratch)]
            argv += [word for key, value in request.args.items() for word in ("--build-arg", f"{key}={value}")]
            argv += ["--tag", request.tag, "--file", str(request.dockerfile), str(request.context)]
            with _store_lock(self._store, fcntl.LOCK_SH):
                run_lines(self._argv(*argv), lambda _line: None, log=_build_log(request.tag))
        self._prune()

    def _prune(self) -> None:
        """Removes what tags held before. Never while another build runs: its unfinished layers look just the same."""
        with contextlib.suppress(BlockingIOError), _store_lock(self._store, fcntl.LOCK_EX | fcntl.LOCK_NB):
            self.buildah("rm", "--all", check=False)  # of builds that were killed
            self.buildah("rmi", "--prune", check=False)

    def export(self, tag: str, archive: Path, name: str) -> None:
        """Docker's format, because only that one leaves the layers uncompressed.

        Half the time, as both ends are this machine.
        """
        self.buildah("push", "--quiet", tag, f"docker-archive:{archive}:{name}")

    def tag(self, image: str, *tags: str) -> None:
        self.buildah("tag", image, *tags)

    def remove_others(self, tag: str) -> None:
        """Removes the tags that the same image had for other inputs; what was built from them keeps its layers."""
        repository, _, kept = tag.rpartition(":")
        found = self.buildah("images", "--format", "{{.Tag}}", repository, check=False).split()
        for other in set(found) - {kept, "latest", "<none>"}:
            self.buildah("rmi", f"{repository}:{other}", check=False)

    def buildah(self, *words: str, check: bool = True) -> str:
        return run(self._argv(*words), check=check)

    def _argv(self, *words: str) -> list[str]:
        place = ["--root", str(self._store / "root"), "--runroot", str(self._store / "run")]
        return [find_program("buildah") or "buildah", *place, "--storage-driver", _storage_driver(), *words]


@functools.cache
def _storage_driver() -> str:
    """overlay cannot lie on overlay (a machine that is itself a container)."""
    cache_root().mkdir(parents=True, exist_ok=True)
    kind = run(["stat", "--file-system", "--format", "%T", cache_root()]).strip()
    return "vfs" if kind in ("overlayfs", "nfs", "fuseblk") else "overlay"


@contextmanager
def _store_lock(store: Path, operation: int) -> Iterator[None]:
    """Shared by builds, exclusive for pruning."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / "builds.lock").open("a") as file:
        fcntl.flock(file, operation)
        yield


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="millpond-build-") as folder:
        yield Path(folder)


def _make_pip_volumes(scratch: Path) -> list[str]:
    """The machine's pip settings as a pip.conf that is mounted while RUN lines run, so that no layer holds them.

    buildah itself hands the usual proxy variables to RUN lines.
    """
    settings = {
        name.removeprefix("PIP_").lower().replace("_", "-"): os.environ[name]
        for name in _PIP_SETTINGS
        if name in os.environ
    }
    if "PIP_CERT" in os.environ:
        settings["cert"] = str(_CERTIFICATES / "ca-certificates.crt")
    lines = ["[global]", "disable-pip-version-check = true", *(f"{key} = {value}" for key, value in settings.items())]
    file = scratch / "pip.conf"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    file.chmod(0o644)
    return ["--volume", f"{file}:/etc/pip.conf:ro"]
