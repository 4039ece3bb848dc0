"""One real node per host: who has it.

Owns the record of the node cluster that runs on this host (kubelet's ports, kube-proxy's tables and pod addresses
exist once). The record is only believed while its containerd or kubelet runs; a dead one is taken over, after its
leftovers were cleared.
"""

from __future__ import annotations

import json
from pathlib import Path

from millpond_cluster.errors import ClusterError
from millpond_cluster.local import processes
from millpond_cluster.local.kubeconfigs import write_private
from millpond_cluster.local.leftovers import clear_node
from millpond_cluster.paths import ClusterPaths

_RECORD = Path("/run/millpond-node.json")


def claim_host(paths: ClusterPaths) -> None:
    """Takes the host for this cluster's node; refuses, with a sentence, while another one's runs."""
    other = _read_holder()
    if other is not None and other.root != paths.root:
        if is_node_running(other):
            raise ClusterError(
                f"the cluster {other.name!r} already runs a real node on this host, and there can be only one. "
                f"Stop it first: millpond-cluster down --name {other.name}"
            )
        clear_node(other)
    write_private(_RECORD, json.dumps({"name": paths.name, "root": str(paths.root)}))


def release_host(paths: ClusterPaths) -> None:
    if has_host(paths):
        _RECORD.unlink(missing_ok=True)


def has_host(paths: ClusterPaths) -> bool:
    """Whether the record names this cluster: only then may what exists once per host be cleared in its name."""
    other = _read_holder()
    return other is not None and other.root == paths.root


def is_node_running(paths: ClusterPaths) -> bool:
    return any(processes.read_pid_file(paths.pid_file(name)) for name in ("containerd", "kubelet"))


def _read_holder() -> ClusterPaths | None:
    try:
        record = json.loads(_RECORD.read_text(encoding="utf-8"))
        return ClusterPaths(name=record["name"], root=Path(record["root"]))
    except (FileNotFoundError, ValueError, KeyError):
        return None
