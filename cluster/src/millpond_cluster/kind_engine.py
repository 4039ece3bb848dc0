"""A cluster where a Docker engine is: kind does everything.

Owns the thin translation to the `kind` command. It must not do anything itself that kind does. Cannot be run on a
machine without an engine, so it is kept to what cannot go wrong: everything above "a kubeconfig, and this image
loaded" is shared with local/.
"""

from __future__ import annotations

from pathlib import Path

from millpond_cluster.build.debian import find_program
from millpond_cluster.errors import ClusterError
from millpond_cluster.local.state import Profile
from millpond_cluster.locks import hold
from millpond_cluster.paths import ClusterPaths
from millpond_cluster.report import Reporter
from millpond_cluster.shell import run

_STATIC_PODS = {
    "apiserver": "kube-apiserver",
    "controller-manager": "kube-controller-manager",
    "scheduler": "kube-scheduler",
}


class KindCluster:
    """One named kind cluster; the profiles control-plane and node are the same here."""

    def __init__(self, name: str, reporter: Reporter) -> None:
        self._paths = ClusterPaths.of(name)
        self._name = name
        self._reporter = reporter

    def up(self, profile: Profile, fake_nodes: int) -> Path:
        with hold(self._paths.lock_file, self._reporter, f"the cluster {self._name}"):
            self._paths.root.mkdir(parents=True, exist_ok=True)
            if self._exists():
                self._kind("export", "kubeconfig", "--name", self._name, "--kubeconfig", str(self._paths.kubeconfig))
            else:
                with self._reporter.step(f"create kind cluster {self._name}"):
                    wait = ("--kubeconfig", str(self._paths.kubeconfig), "--wait", "180s")
                    self._kind("create", "cluster", "--name", self._name, *wait)
        return self._paths.kubeconfig

    def down(self, purge: bool) -> bool:
        existed = self._exists()
        self._kind("delete", "cluster", "--name", self._name, "--kubeconfig", str(self._paths.kubeconfig))
        self._paths.kubeconfig.unlink(missing_ok=True)
        return existed

    def restart(self, component: str) -> None:
        """The kubelet in kind's node starts a static pod again as soon as its container is gone."""
        name = _STATIC_PODS.get(component, component)
        script = f"crictl ps --quiet --name '^{name}$' | xargs --no-run-if-empty crictl stop --timeout 0"
        run(["docker", "exec", f"{self._name}-control-plane", "sh", "-c", script])

    def load(self, image: str) -> bool:
        with self._reporter.step(f"load image {image} into kind cluster {self._name}"):
            self._kind("load", "docker-image", "--name", self._name, image)
        return True

    def describe(self) -> dict[str, str]:
        return {"engine": "kind", "cluster": "exists" if self._exists() else "dead"}

    def _exists(self) -> bool:
        return self._name in self._kind("get", "clusters").split()

    def _kind(self, *words: str) -> str:
        kind = find_program("kind")
        if kind is None:
            raise ClusterError(
                "there is a Docker engine but no `kind` on the PATH: install kind, or set MILLPOND_CLUSTER_ENGINE=none"
            )
        return run([kind, *words])
