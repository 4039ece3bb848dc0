"""What is known about a cluster between two commands: state.json in its folder.

Owns the record of ports, addresses and components. A component is recorded before it is started, and the file is
written whole or not at all, so that after a SIGKILL at any moment the next command knows everything that may run. The
processes themselves write their identity (processes.py). It must not start or stop anything.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError

from millpond_cluster.local.kubeconfigs import write_private
from millpond_cluster.paths import ClusterPaths


class Profile(StrEnum):
    """How much of a cluster: the API alone, a real node that runs containers, or the API with fake nodes."""

    CONTROL_PLANE = "control-plane"
    NODE = "node"
    KWOK = "kwok"


class ComponentRecord(BaseModel):
    """A component as it was last started: enough to start it again with the same arguments."""

    argv: list[str]
    cgroup: Path | None = None


_OWN_PORTS = range(15_000, 30_000)
"""Below what the kernel hands to outgoing connections (from 32768) and Kubernetes to NodePorts (from 30000).

A port of the first kind may be some client's own when its server restarts; a client that tries again may even connect
to itself (seen: "address already in use" after a SIGKILL of the API server).
"""


class Ports(BaseModel):
    """Chosen free when the cluster is made, kept as long as it lives."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int
    dns: int
    dns_health: int
    proxy_health: int
    proxy_metrics: int
    kwok: int

    @classmethod
    def choose(cls) -> Ports:
        return cls(**_choose_ports(cls.model_fields))


class KedaPorts(BaseModel):
    """Of KEDA, where a cluster has it; kept as long as it runs."""

    health: int
    metrics_service: int
    adapter: int
    adapter_metrics: int

    @classmethod
    def choose(cls) -> KedaPorts:
        return cls(**_choose_ports(cls.model_fields))


def _choose_ports(names: Iterable[str]) -> dict[str, int]:
    """Random free ones, all held open until the last is chosen so that none comes twice."""
    wanted = list(names)
    holders: list[socket.socket] = []
    try:
        for port in random.sample(_OWN_PORTS, len(_OWN_PORTS)):
            if (holder := _hold(port)) is not None:
                holders.append(holder)
            if len(holders) == len(wanted):
                break
        return dict(zip(wanted, (int(holder.getsockname()[1]) for holder in holders), strict=True))
    finally:
        for holder in holders:
            holder.close()


def _hold(port: int) -> socket.socket | None:
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        return None
    return holder


class ClusterState(BaseModel):
    """The whole record."""

    name: str
    profile: Profile
    host_address: str
    ports: Ports
    keda: KedaPorts | None = None
    components: dict[str, ComponentRecord] = {}

    @property
    def node_name(self) -> str:
        return f"{self.name}-node"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports.apiserver}"


def read_state(paths: ClusterPaths) -> ClusterState | None:
    """None when there is no cluster of that name, or only an unreadable record of one."""
    try:
        return ClusterState.model_validate_json(paths.state_file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_state(paths: ClusterPaths, state: ClusterState) -> None:
    write_private(paths.state_file, state.model_dump_json(indent=1) + "\n")


def read_host_address() -> str:
    """The address that pods reach the API server at: the one the default route uses. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
