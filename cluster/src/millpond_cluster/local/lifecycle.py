"""A cluster of host processes from `up` to `down`.

Owns the decisions: is it healthy already, what of a killed one must be cleared first, what `down` removes. One
command at a time works on a cluster (a lock), and any of them may be killed at any moment: whatever is found half
done is completed or removed by the next. It must not know command lines (control_plane.py, node.py) or the order of
starting (startup.py).
"""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager
from pathlib import Path

from millpond_cluster.build.builder import make_builder
from millpond_cluster.build.prepare import Prepared, prepare_control_plane, prepare_node
from millpond_cluster.errors import ClusterError
from millpond_cluster.local.client import ApiClient
from millpond_cluster.local.components import Components
from millpond_cluster.local.host import claim_host, has_host, is_node_running, release_host
from millpond_cluster.local.leftovers import clear_node
from millpond_cluster.local.node import PAUSE_IMAGE
from millpond_cluster.local.node_images import NodeImages
from millpond_cluster.local.startup import Startup
from millpond_cluster.local.state import ClusterState, Ports, Profile, read_host_address, read_state, write_state
from millpond_cluster.locks import hold
from millpond_cluster.mounts import remove_tree
from millpond_cluster.paths import ClusterPaths
from millpond_cluster.report import Reporter

# Who must be gone before whom: first those that would start things again, last those that the others talk to.
_STOP_ORDER = (
    ("keda-operator", "keda-adapter"),
    ("kubelet", "kube-controller-manager", "kube-scheduler", "kwok", "provisioner"),
    ("kube-proxy", "coredns", "containerd"),
    ("kube-apiserver",),
    ("etcd",),
)


class LocalCluster:
    """One named cluster of host processes."""

    def __init__(self, name: str, reporter: Reporter) -> None:
        self.paths = ClusterPaths.of(name)
        self._reporter = reporter

    def up(self, profile: Profile, fake_nodes: int) -> Path:
        """Makes the cluster run, whatever state it is in; returns its kubeconfig."""
        if (state := read_state(self.paths)) and state.profile is profile and self._is_healthy(state):
            return self.paths.kubeconfig
        with self._lock():
            self._up(profile, fake_nodes)
        return self.paths.kubeconfig

    def _up(self, profile: Profile, fake_nodes: int) -> None:
        state = read_state(self.paths)
        if state is not None and state.profile is not profile:
            raise ClusterError(
                f"the cluster {state.name!r} has the profile {state.profile}, not {profile}. "
                f"Remove it first: millpond-cluster down --name {state.name}"
            )
        prepared = self._prepare(profile)
        state = self._settle_state(state, profile)
        Startup(self.paths, state, prepared, self._reporter).run(fake_nodes)

    def _prepare(self, profile: Profile) -> Prepared:
        if profile is not Profile.NODE:
            return prepare_control_plane(self._reporter, fake_nodes=profile is Profile.KWOK)
        if os.geteuid() != 0:
            raise ClusterError(
                "a real node without a Docker engine needs root; without root use --profile control-plane"
            )
        if read_host_address().startswith("127."):
            raise ClusterError(
                "pods reach the API server at this host's address, but it has none: set up a default route"
            )
        claim_host(self.paths)
        return prepare_node(self._reporter, PAUSE_IMAGE)

    def _settle_state(self, state: ClusterState | None, profile: Profile) -> ClusterState:
        """The record to start from.

        Clears what a killed node left, and gives up ports and addresses that are no longer ours.
        """
        if profile is Profile.NODE and not is_node_running(self.paths):
            with self._reporter.step("clear what an earlier node left behind"):
                clear_node(self.paths)
        address = read_host_address()
        if state is None:
            state = ClusterState(name=self.paths.name, profile=profile, host_address=address, ports=Ports.choose())
        elif not Components(self.paths, state).running():
            ports = state.ports if _are_free(state.ports) else Ports.choose()
            state = state.model_copy(update={"host_address": address, "ports": ports, "keda": None, "components": {}})
        write_state(self.paths, state)
        return state

    def down(self, purge: bool) -> bool:
        """Stops and removes the cluster; tells whether there was one. The node's images stay unless `purge`."""
        with self._lock():
            state = read_state(self.paths)
            if state is not None:
                with self._reporter.step(f"stop cluster {self.paths.name}"):
                    components = Components(self.paths, state)
                    for names in _STOP_ORDER:
                        components.stop(names)
            if self.paths.root.exists():
                with self._reporter.step("remove what it left"):
                    self._remove(purge)
        return state is not None

    def _remove(self, purge: bool) -> None:
        if has_host(self.paths):
            clear_node(self.paths)
            release_host(self.paths)
        kept = () if purge else ("containerd", "logs")
        for path in self.paths.root.iterdir():
            if path.name not in kept:
                remove_tree(path) if path.is_dir() else path.unlink()
        if purge:
            self.paths.root.rmdir()

    def restart(self, component: str) -> None:
        with self._lock():
            Components(self.paths, self.require_state()).restart(component)

    def load(self, image: str) -> bool:
        state = self.require_state()
        if state.profile is not Profile.NODE:
            raise ClusterError(
                f"the cluster {state.name!r} has the profile {state.profile}: it runs no containers and takes no images"
            )
        images = NodeImages(self.paths)
        if not images.is_serving():
            raise ClusterError(
                f"the node of {state.name!r} does not run: millpond-cluster up --profile node --name {state.name}"
            )
        return images.load(make_builder(), image, self._reporter)

    def require_state(self) -> ClusterState:
        state = read_state(self.paths)
        if state is None:
            raise ClusterError(
                f"there is no cluster {self.paths.name!r}: make one with millpond-cluster up --name {self.paths.name}"
            )
        return state

    def describe(self) -> dict[str, str]:
        """Component → `running, pid 123` or `dead`, and whether the API server is ready."""
        state = self.require_state()
        running = Components(self.paths, state).running()
        lines = {name: f"running, pid {running[name].pid}" if name in running else "dead" for name in state.components}
        ready = bool(lines) and ApiClient(state.ports.apiserver, self.paths.certificates).is_ready()
        return {"profile": state.profile.value, "api": "ready" if ready else "not ready", **lines}

    def _is_healthy(self, state: ClusterState) -> bool:
        """All that was started runs, the API server is ready, and startup had come to its end."""
        if not state.components or Components(self.paths, state).dead():
            return False
        last = {Profile.NODE: "provisioner", Profile.KWOK: "kwok", Profile.CONTROL_PLANE: "kube-scheduler"}[
            state.profile
        ]
        return last in state.components and ApiClient(state.ports.apiserver, self.paths.certificates).is_ready()

    def _lock(self) -> AbstractContextManager[None]:
        return hold(self.paths.lock_file, self._reporter, f"the cluster {self.paths.name}")


def _are_free(ports: Ports) -> bool:
    """Whether all recorded ports can still be had; a cluster that was killed keeps its kubeconfig valid if they can."""
    for port in ports.model_dump().values():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True
