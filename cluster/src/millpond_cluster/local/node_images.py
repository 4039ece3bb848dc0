"""Images inside the node: what is loaded, and loading what is not.

Owns containerd's image store as seen through `ctr` and the record of which image id lies there under which name, so
that loading an image a second time costs nothing. It must not build images. A record that claims too much (the store
was wiped) is noticed, because the store is asked as well.
"""

from __future__ import annotations

import json

from millpond_cluster.build.builder import Builder
from millpond_cluster.build.debian import find_program
from millpond_cluster.errors import ClusterError
from millpond_cluster.local.kubeconfigs import write_private
from millpond_cluster.locks import hold
from millpond_cluster.paths import ClusterPaths
from millpond_cluster.report import Reporter
from millpond_cluster.shell import run


def make_node_name(image: str) -> str:
    """The name under which the kubelet asks for `image`.

    `app` → `docker.io/library/app:latest`, `localhost/app:v1` as it is.
    """
    first, slash, _ = image.partition("/")
    if not (slash and ("." in first or ":" in first or first == "localhost")):
        image = f"docker.io/{image}" if slash else f"docker.io/library/{image}"
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last else f"{image}:latest"


class NodeImages:
    """The image store of one running node."""

    def __init__(self, paths: ClusterPaths) -> None:
        self._paths = paths

    def is_serving(self) -> bool:
        return self._paths.containerd_socket.exists() and bool(self._ctr("version", check=False))

    def names(self) -> set[str]:
        return set(self._ctr("images", "ls", "-q").split())

    def load(self, builder: Builder, image: str, reporter: Reporter) -> bool:
        """Loads unless the very same image is there; tells whether it loaded."""
        image_id = builder.image_id(image)
        if image_id is None:
            raise ClusterError(
                f"there is no local image {image}: build it first (millpond-cluster build --tag {image} …)"
            )
        name = make_node_name(image)
        with hold(self._paths.loaded_images.with_suffix(".lock"), reporter, "loading images"):
            if self._records().get(name) == image_id and name in self.names():
                return False
            with reporter.step(f"load image {image} into the node"):
                self._import(builder, image, name)
            write_private(self._paths.loaded_images, json.dumps({**self._records(), name: image_id}, indent=1))
        return True

    def _import(self, builder: Builder, image: str, name: str) -> None:
        archive = self._paths.loaded_images.with_name("loading.tar")
        archive.unlink(missing_ok=True)  # of a load that was killed
        try:
            builder.export(image, archive, name)
            self._ctr("images", "import", "--snapshotter", "overlayfs", str(archive))
        finally:
            archive.unlink(missing_ok=True)
        if name not in self.names():
            raise ClusterError(f"the node did not take the image {name}; see the containerd log in {self._paths.logs}")

    def _records(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._paths.loaded_images.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def _ctr(self, *words: str, check: bool = True) -> str:
        ctr = find_program("ctr") or "ctr"
        return run([ctr, "--address", self._paths.containerd_socket, "--namespace", "k8s.io", *words], check=check)
