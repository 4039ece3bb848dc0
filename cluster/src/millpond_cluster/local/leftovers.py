"""What a node leaves on the machine when it is killed, and how exactly that is cleared.

Owns the removal of mounts, network namespaces, the address book, kube-proxy's tables, control groups and log links of
one cluster. It removes only what lies below the cluster's folder or carries its name, with one exception:
kube-proxy's nft tables have a fixed name, and belong to the one node that may run on a host. Everything here may be
called at any time after the processes are gone, and again; it keeps containerd's images and snapshots, so that the
next `up` is quick.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from millpond_cluster.build.debian import find_program
from millpond_cluster.local import cgroups, processes
from millpond_cluster.local.node import make_network_name
from millpond_cluster.mounts import unmount_below
from millpond_cluster.paths import ClusterPaths
from millpond_cluster.shell import run

_CONTAINER_LOGS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")
_KUBELET_SOCKET = Path("/var/lib/kubelet/device-plugins/kubelet.sock")  # the one path that --root-dir does not move


def clear_node(paths: ClusterPaths) -> None:
    """Containers and shims, then everything that hung on them. The node's own daemons must have been stopped before."""
    for _ in range(3):  # a shim that is being killed may still be starting a process
        processes.kill(cgroups.read_members(paths.name))
    unmount_below(paths.root)
    _remove_shim_sockets(paths)
    for folder in (paths.containerd_state, paths.cni, paths.kubelet / "pods", *_container_records(paths)):
        shutil.rmtree(folder, ignore_errors=True)
    paths.containerd_socket.unlink(missing_ok=True)
    _remove_proxy_tables()
    _remove_links(paths)
    cgroups.remove_group(paths.name)


def _container_records(paths: ClusterPaths) -> list[Path]:
    """The records of containers that no longer exist. The images (content, snapshots, metadata) stay."""
    return list(paths.containerd_root.glob("io.containerd.grpc.v1.cri")) + list(
        paths.containerd_root.glob("io.containerd.runtime.v*")
    )


def _remove_shim_sockets(paths: ClusterPaths) -> None:
    """They lie at a fixed place; every container's folder names its own."""
    for address in paths.containerd_state.glob("io.containerd.runtime.v2.task/*/*/address"):
        with contextlib.suppress(OSError):
            Path(address.read_text(encoding="utf-8").strip().removeprefix("unix://")).unlink()


def _remove_proxy_tables() -> None:
    if (nft := find_program("nft")) is None:
        return
    for family in ("ip", "ip6"):
        run([nft, "delete", "table", family, "kube-proxy"], check=False)


def _remove_links(paths: ClusterPaths) -> None:
    """The kubelet's links to pod logs and the network plug-ins' cached results have fixed places.

    Ours are told by content or name.
    """
    for link in _CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and os.readlink(link).startswith(f"{paths.root}/"):
            link.unlink(missing_ok=True)
    prefix = f"{make_network_name(paths.name)}-"
    for result in _CNI_RESULTS.glob(f"{prefix}*"):
        sandbox = result.name.removeprefix(prefix).partition("-")[0]
        (_CNI_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        result.unlink(missing_ok=True)
    _KUBELET_SOCKET.unlink(missing_ok=True)
