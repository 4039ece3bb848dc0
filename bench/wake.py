"""Reaction from zero: publish → Deployment patched, by push and by a 1 s poll alone: `python -m bench.wake`.

Owns the comparison: the same rounds on the same cluster with the operator's MILLPOND_PUSH_WAKE on and off. It installs
the tests' release and removes it again; the demo's release has to go meanwhile (`make demo` brings it back).
"""

import argparse
import asyncio
import os
import sys

from millpond_cluster.api import Cluster
from millpond_cluster.paths import DEFAULT_NAME

from tests.support import release
from tests.support.kube import Kube
from tests.support.logs import forward_nats
from tests.support.reaction import Figures, measure
from tests.support.stage import Stage

ROUNDS = 20
VARIANTS = {"push wake (the default)": "true", "1 s poll alone": "false"}


def run_variant(node: Kube, push: str, rounds: int) -> Figures:
    """The rounds with the operator set to push or not."""
    release.install(node.kubeconfig, {"env": {"MILLPOND_PUSH_WAKE": push}})
    stage = Stage(release.make_namespace(node, f"bench-{os.getpid()}-{push}"))
    with forward_nats(node) as url:
        return asyncio.run(measure(stage, url, rounds))


def print_figures(name: str, figures: Figures) -> None:
    told = sorted(one.told for one in figures.reactions if one.told is not None)
    ledger = f"; by the operator's ledger p50 {told[len(told) // 2]:.0f} ms, max {told[-1]:.0f} ms" if told else ""
    print(f"{name:24} {figures}{ledger}", flush=True)
    print(f"{'':24} each: {' '.join(f'{one.seen:.0f}' for one in figures.reactions)}", flush=True)


def main() -> int:
    """0 when both variants were measured."""
    parser = argparse.ArgumentParser(description="Publish → Deployment patched, from zero, in milliseconds.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster's name (make cluster-up)")
    options = parser.parse_args()
    node = Kube(Cluster(options.name).kubeconfig)
    release.make_images(options.name)
    release.remove_demo(node.kubeconfig)
    try:
        results = {name: run_variant(node, push, options.rounds) for name, push in VARIANTS.items()}
    finally:
        release.remove_everything(node)
    print("\npublish → Deployment patched, from zero, seen by a watch from outside:")
    for name, figures in results.items():
        print_figures(name, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
