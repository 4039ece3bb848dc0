"""The Python face of the tool: one class, the same on a machine with a Docker engine and on one without.

Owns the choice between the two and the build of images; tests and the command line use nothing else. It must not do
the work of either: kind_engine.py and local/ do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from millpond_cluster.build.base_images import BASE_IMAGE, ensure_base_image
from millpond_cluster.build.builder import BuildahBuilder, ensure_image, has_docker_engine, make_builder
from millpond_cluster.build.context import BuildRequest
from millpond_cluster.errors import ClusterError
from millpond_cluster.kind_engine import KindCluster
from millpond_cluster.local.keda_lifecycle import Keda
from millpond_cluster.local.lifecycle import LocalCluster
from millpond_cluster.local.state import Profile
from millpond_cluster.paths import DEFAULT_NAME, ClusterPaths
from millpond_cluster.report import Reporter


class Backend(Protocol):
    """What a kind of cluster can do."""

    def up(self, profile: Profile, fake_nodes: int) -> Path: ...

    def down(self, purge: bool) -> bool: ...

    def restart(self, component: str) -> None: ...

    def load(self, image: str) -> bool: ...

    def describe(self) -> dict[str, str]: ...


class Cluster:
    """A named cluster; making this object does nothing yet."""

    def __init__(self, name: str = DEFAULT_NAME, reporter: Reporter | None = None) -> None:
        self.name = name
        self._paths = ClusterPaths.of(name)
        self._reporter = reporter or Reporter()

    @classmethod
    def up(cls, name: str = DEFAULT_NAME, profile: Profile | str = Profile.NODE, *, fake_nodes: int = 10) -> Cluster:
        """Makes the cluster run (seconds when it runs already) and returns it."""
        cluster = cls(name)
        wanted = Profile(profile)
        cluster._backend(wanted).up(wanted, fake_nodes)
        return cluster

    @property
    def kubeconfig(self) -> Path:
        if not self._paths.kubeconfig.exists():
            raise ClusterError(
                f"there is no cluster {self.name!r}: make one with millpond-cluster up --name {self.name}"
            )
        return self._paths.kubeconfig

    def build(self, tag: str, *, file: Path, context: Path, args: Mapping[str, str] | None = None) -> bool:
        """Builds an image unless its inputs are unchanged; tells whether it built.

        BASE_IMAGE defaults to what exists here.
        """
        args = dict(args or {})
        builder = make_builder()
        if isinstance(builder, BuildahBuilder):
            base = ensure_base_image(builder, self._reporter)
            if args.setdefault("BASE_IMAGE", BASE_IMAGE) == BASE_IMAGE:
                args["BASE_IMAGE"] = base
        request = BuildRequest(tag=tag, dockerfile=file.absolute(), context=context.absolute(), args=args)
        return ensure_image(builder, request, self._reporter)

    def load(self, image: str) -> bool:
        """Makes a locally built image available to pods; tells whether that took any work."""
        return self._backend().load(image)

    def restart(self, component: str) -> None:
        """Kills a component the hard way and starts it again."""
        self._backend().restart(component)

    def status(self) -> dict[str, str]:
        return self._backend().describe()

    def start_keda(self) -> None:
        """KEDA beside the other components: built when it is not in the cache yet, about ten minutes."""
        Keda(self.name, self._reporter).up()

    def stop_keda(self) -> bool:
        """Stops KEDA and removes its objects; tells whether there was anything of it."""
        return Keda(self.name, self._reporter).down()

    def down(self, *, purge: bool = False) -> bool:
        """Removes the cluster; tells whether there was one."""
        return self._backend().down(purge)

    def _backend(self, profile: Profile | None = None) -> Backend:
        """kind for what an engine can run.

        Fake nodes are host processes everywhere, and so is what was made as such.
        """
        local = profile is Profile.KWOK or self._paths.state_file.exists() or not has_docker_engine()
        return LocalCluster(self.name, self._reporter) if local else KindCluster(self.name, self._reporter)
