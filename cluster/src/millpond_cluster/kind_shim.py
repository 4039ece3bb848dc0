"""`millpond-cluster-kind`: answers the four commands that pytest-kind calls of the `kind` binary, on a machine
without containers.

Owns the translation of kind's arguments to Cluster. Point pytest-kind's `--kind-bin` at it, and the very same fixture
runs here. It must not offer more than these four: who needs more uses Cluster. Profile by MILLPOND_CLUSTER_PROFILE
(default: node).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from millpond_cluster.api import Cluster
from millpond_cluster.errors import ClusterError
from millpond_cluster.local.state import Profile
from millpond_cluster.paths import DEFAULT_NAME, cluster_names


def main(argv: Sequence[str] | None = None) -> None:
    """Exit codes and output as kind's."""
    try:
        run(sys.argv[1:] if argv is None else argv)
    except (ClusterError, ValueError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        sys.exit(1)


def run(argv: Sequence[str]) -> None:
    arguments = make_parser().parse_args(argv)
    match arguments.verb, arguments.noun:
        case "get", "clusters":
            print("\n".join(read_cluster_names()))
        case "create", "cluster":
            create(arguments.name, arguments.kubeconfig)
        case "load", "docker-image":
            for image in arguments.images:
                Cluster(arguments.name).load(image)
        case "delete", "cluster":
            Cluster(arguments.name).down()
            if arguments.kubeconfig is not None:
                arguments.kubeconfig.unlink(missing_ok=True)


def create(name: str, kubeconfig: Path | None) -> None:
    """A second `create` of a running cluster is an error for kind, and no work for us.

    The fixture asks `get clusters` first.
    """
    profile = Profile(os.environ.get("MILLPOND_CLUSTER_PROFILE", Profile.NODE))
    cluster = Cluster.up(name, profile)
    if kubeconfig is not None:
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cluster.kubeconfig, kubeconfig)


def read_cluster_names() -> list[str]:
    """The clusters that answer. A dead one is left out, so that the fixture calls `create`, which brings it back."""
    return [name for name in cluster_names() if Cluster(name).status().get("api") == "ready"]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="millpond-cluster-kind", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default=DEFAULT_NAME)
    common.add_argument("--kubeconfig", type=Path)
    _add(verbs, "get", "clusters")
    create_cluster = _add(verbs, "create", "cluster", common)
    for ignored in ("--image", "--config", "--wait"):
        create_cluster.add_argument(
            ignored, help="accepted and without effect: there is one version and one shape here"
        )
    _add(verbs, "delete", "cluster", common)
    _add(verbs, "load", "docker-image", common).add_argument("images", nargs="+")
    return parser


def _add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    verb: str,
    noun: str,
    *parents: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    nouns = verbs.add_parser(verb).add_subparsers(dest="noun", required=True)
    return nouns.add_parser(noun, parents=list(parents))
