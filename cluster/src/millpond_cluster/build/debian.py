"""The Debian packages that a real node and the image builder need.

Owns the list of packages and their installation (only the missing ones). It must not configure them: the cluster runs
its own containerd with its own configuration and never touches the system's. Failure: on a machine without apt it
names the programs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable

from millpond_cluster.errors import ClusterError
from millpond_cluster.locks import hold
from millpond_cluster.paths import cache_root
from millpond_cluster.report import Reporter
from millpond_cluster.shell import run

# package → a program of it: if that is there, the package is not asked for (it may come from elsewhere).
PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iptables": "iptables",
    "nftables": "nft",
    "conntrack": "conntrack",
    "socat": "socat",
    "iproute2": "ip",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
NODE_PACKAGES = tuple(name for name in PROGRAMS if name not in ("buildah", "debootstrap"))
BUILDER_PACKAGES = ("buildah", "debootstrap")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_program(name: str) -> str | None:
    """Also looks where an ordinary user's PATH does not (/usr/sbin)."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)


def ensure_packages(packages: Iterable[str], reporter: Reporter) -> None:
    """Installs the missing ones with apt-get."""
    if not _missing(packages):
        return
    with hold(cache_root() / "locks" / "apt.lock", reporter, "installing Debian packages"):
        missing = _missing(packages)
        if not missing:
            return
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise ClusterError(
                f"these programs are missing: {', '.join(PROGRAMS[name] for name in missing)}. "
                "On Debian, as root, they are installed for you; here install them, or start a Docker engine."
            )
        with reporter.step(f"install Debian packages: {', '.join(missing)}"):
            _install(missing)


def _missing(packages: Iterable[str]) -> list[str]:
    return [name for name in packages if find_program(PROGRAMS[name]) is None]


def _install(packages: list[str]) -> None:
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    argv = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    first = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, check=False)
    if first.returncode != 0:  # a fresh machine has no package lists yet
        run(["apt-get", "update", "-qq"], env=environment)
        run(argv, env=environment)
