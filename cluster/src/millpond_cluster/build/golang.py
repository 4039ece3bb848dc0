"""Kubernetes' own programs, built from pinned Go modules by the ordinary `go` client.

Owns the list of program families, their versions and the cached binaries. A binary lies under the cache in a folder
named by family, version and a hash of everything that went in (go.mod, go.sum, flags, platform), so a changed pin
builds anew and an unchanged one costs nothing. A build goes to a temporary folder and is renamed: a killed build
leaves no half binary behind. It must not know clusters. Two invocations that need the same family wait for each
other.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from millpond_cluster.errors import ClusterError
from millpond_cluster.locks import hold
from millpond_cluster.paths import cache_root, package_root
from millpond_cluster.report import Reporter
from millpond_cluster.shell import run, run_lines

KUBERNETES_VERSION = "v1.35.4"
_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Family:
    """Programs that share one go.mod; `assets` are folders of a module that belong beside the binaries."""

    name: str
    version: str
    programs: Mapping[str, str]
    ldflags: str = "-s -w"
    assets: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return package_root() / "go" / self.name

    @property
    def folder(self) -> Path:
        return cache_root() / "bin" / f"{self.name}-{self.version}-{self._hash()}"

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for file in sorted(path for path in self.source.iterdir() if path.is_file()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        digest.update(f"{self.ldflags}|{sorted(self.assets.items())}|{platform.system()}|{platform.machine()}".encode())
        return digest.hexdigest()[:12]


KUBERNETES = Family(
    name="kubernetes",
    version=KUBERNETES_VERSION,
    programs={
        program: f"k8s.io/kubernetes/cmd/{program}"
        for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    },
    # Without these the server calls itself v0.0.0, and the capability checks of kubectl and helm break.
    ldflags=f"-s -w -X {_VERSION_PACKAGE}.gitVersion={KUBERNETES_VERSION} "
    f"-X {_VERSION_PACKAGE}.gitMajor=1 -X {_VERSION_PACKAGE}.gitMinor=35",
)
ETCD = Family("etcd", "v3.6.5", {"etcd": "go.etcd.io/etcd/server/v3"})
COREDNS = Family("coredns", "v1.12.4", {"coredns": "github.com/coredns/coredns"})
KWOK = Family(
    "kwok",
    "v0.7.0",
    {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
    assets={"stages": ("sigs.k8s.io/kwok", "kustomize/stage")},
)
PAUSE = Family("pause", "v1", {"pause": "."})
KEDA_VERSION = "v2.20.1"
_KEDA = "github.com/kedacore/keda/v2"
KEDA = Family(
    "keda",
    KEDA_VERSION,
    {"keda-operator": f"{_KEDA}/cmd/operator", "keda-adapter": f"{_KEDA}/cmd/adapter"},
    ldflags=f"-s -w -X {_KEDA}/version.Version={KEDA_VERSION}",
    assets={"keda-crds": (_KEDA, "config/crd/bases")},
)
FAMILIES = {family.name: family for family in (ETCD, KUBERNETES, COREDNS, KWOK, PAUSE, KEDA)}


@dataclass(frozen=True)
class Wanted:
    """Some programs of one family."""

    family: Family
    programs: tuple[str, ...]

    def paths(self) -> dict[str, Path]:
        return {name: self.family.folder / name for name in (*self.programs, *self.family.assets)}


CONTROL_PLANE = (
    Wanted(ETCD, ("etcd",)),
    Wanted(KUBERNETES, ("kube-apiserver", "kube-controller-manager", "kube-scheduler")),
)
NODE = (Wanted(KUBERNETES, ("kubelet", "kube-proxy")), Wanted(COREDNS, ("coredns",)), Wanted(PAUSE, ("pause",)))
FAKE_NODES = (Wanted(KWOK, ("kwok",)),)
PEER = (Wanted(KEDA, ("keda-operator", "keda-adapter")),)


def ensure_programs(wanted: Iterable[Wanted], reporter: Reporter) -> dict[str, Path]:
    """Builds what is not in the cache yet, one family after the other (they share cores), and returns every path by
    name.
    """
    found: dict[str, Path] = {}
    for family, programs in _by_family(wanted).items():
        want = Wanted(FAMILIES[family], tuple(programs))
        if _missing(want):
            with hold(cache_root() / "locks" / f"go-{family}.lock", reporter, f"building {family}"):
                _build(want, reporter)
        found.update(want.paths())
    return found


def _by_family(wanted: Iterable[Wanted]) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for want in wanted:
        families.setdefault(want.family.name, []).extend(want.programs)
    return families


def _missing(want: Wanted) -> list[str]:
    return [name for name, path in want.paths().items() if not path.exists()]


def _build(want: Wanted, reporter: Reporter) -> None:
    missing = _missing(want)  # once more, under the lock: another invocation may have built them meanwhile
    programs = [name for name in missing if name in want.family.programs]
    if not missing:
        return
    if shutil.which("go") is None:
        raise ClusterError(
            "Go 1.25 or newer is needed to build Kubernetes' programs, and `go` is not on the PATH: install it"
        )
    family = want.family
    family.folder.mkdir(parents=True, exist_ok=True)
    scratch = family.folder.with_name(f".building-{family.name}")
    shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed
    scratch.mkdir()
    if programs:
        _compile(family, programs, scratch, reporter)
    for asset in (name for name in missing if name in family.assets):
        _copy_asset(family, asset, scratch)
    for name in missing:
        os.replace(scratch / name, family.folder / name)
    scratch.rmdir()


def _compile(family: Family, programs: list[str], target: Path, reporter: Reporter) -> None:
    log = cache_root() / "logs" / f"go-build-{family.name}.log"
    packages = 0

    with reporter.step(f"build {', '.join(programs)} {family.version} (cached afterwards)") as step:

        def count(line: str) -> None:
            nonlocal packages
            if line.startswith("go: downloading"):
                step.detail = "downloading modules"
            else:
                packages += 1
                step.detail = f"{packages} packages compiled"

        for name in programs:
            argv = ["go", "build", "-v", "-trimpath", "-ldflags", family.ldflags, "-o", str(target / name)]
            run_lines([*argv, family.programs[name]], count, log=log, env=_environment(), cwd=family.source)


def _copy_asset(family: Family, asset: str, target: Path) -> None:
    module, folder = family.assets[asset]
    run(["go", "mod", "download", module], env=_environment(), cwd=family.source)
    root = run(["go", "list", "-m", "-f", "{{.Dir}}", module], env=_environment(), cwd=family.source).strip()
    shutil.copytree(Path(root) / folder, target / asset, copy_function=shutil.copyfile)
    for path in (target / asset).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the module cache is read-only, and so would the copy be
    (target / asset).chmod(0o755)


def _environment() -> dict[str, str]:
    return {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
