"""Where everything lies: the cache (kept, shared by all clusters) and the state (one folder per cluster).

Owns the names of folders and files outside the work tree; it must not create anything or know what the files mean.
Both roots can be moved by MILLPOND_CACHE and MILLPOND_STATE, so that two test runs never share a folder by accident.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from millpond_cluster.errors import ClusterError

DEFAULT_NAME = "millpond"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


def cache_root() -> Path:
    """Binaries and base images, keyed by version and a hash of their inputs."""
    return Path(os.environ.get("MILLPOND_CACHE") or Path.home() / ".cache" / "millpond").expanduser().absolute()


def state_root() -> Path:
    """One folder per cluster."""
    return (
        Path(os.environ.get("MILLPOND_STATE") or Path.home() / ".local" / "state" / "millpond").expanduser().absolute()
    )


def package_root() -> Path:
    """The folder of this package, where the go.mod files lie as data."""
    return Path(__file__).parent


def check_name(name: str) -> str:
    """A cluster's name becomes a folder, a cgroup and a host name: only what fits all three is accepted."""
    if not _NAME.fullmatch(name):
        raise ClusterError(f"the cluster name {name!r} must be 1 to 40 lower-case letters, digits and dashes")
    return name


def cluster_names() -> list[str]:
    """Every cluster that has a record of its own kind (kind's clusters have none: kind knows them)."""
    return sorted(file.parent.name for file in state_root().glob("*/state.json"))


@dataclass(frozen=True)
class ClusterPaths:
    """The folders and files of one cluster."""

    name: str
    root: Path

    @classmethod
    def of(cls, name: str) -> ClusterPaths:
        return cls(name=check_name(name), root=state_root() / name)

    @property
    def state_file(self) -> Path:
        return self.root / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.root.parent / ".locks" / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    @property
    def config(self) -> Path:
        """Configuration files and the components' own kubeconfigs."""
        return self.root / "config"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def pid_file(self, component: str) -> Path:
        return self.root / "run" / component

    def log_file(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def containerd_root(self) -> Path:
        """Images and snapshots: kept from one `up` to the next."""
        return self.root / "containerd" / "root"

    @property
    def containerd_state(self) -> Path:
        return self.root / "containerd" / "state"

    @property
    def containerd_socket(self) -> Path:
        return self.root / "containerd" / "containerd.sock"

    @property
    def loaded_images(self) -> Path:
        """Which image id was loaded under which name; lies beside the image store because it shares its life."""
        return self.root / "containerd" / "loaded.json"

    @property
    def kubelet(self) -> Path:
        return self.root / "kubelet"

    @property
    def pod_logs(self) -> Path:
        return self.root / "pod-logs"

    @property
    def cni(self) -> Path:
        """The network's configuration and its address book (host-local's data)."""
        return self.root / "cni"

    @property
    def volumes(self) -> Path:
        """What the provisioner hands out to PersistentVolumeClaims."""
        return self.root / "volumes"
