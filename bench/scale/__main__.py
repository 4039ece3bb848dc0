"""`python -m bench.scale`: the operator with 10, 100 and 1,000 pools of 20 workers, on a kwok cluster.

Owns the run: cluster, and for each point a namespace, a nats-server, an operator and the hands of its own, so that one
point leaves nothing in the memory of the next. 20,000 pods take tens of minutes on two cores: `--pools 10,100` shows
the curve's beginning in five.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import uvloop
from millpond.transport import Transport
from millpond_cluster.api import Cluster
from millpond_cluster.local.components import Components
from millpond_cluster.local.state import read_state
from millpond_cluster.paths import ClusterPaths
from millpond_operator.cluster.api import Api

from bench.scale import report
from bench.scale.image import make_environment
from bench.scale.meter import Meter
from bench.scale.phases import Plan, Play, Point, say
from bench.scale.site import Site, start_hands
from tests.support.kube import ROOT, Kube
from tests.support.nats import NatsServer, free_port
from tests.support.works import Works

PODS_PER_NODE = 400
RESULTS = ROOT / "docs" / "benchmarks"
KINDS = ("workerpools", "tasks", "workers")


async def measure(kube: Kube, plan: Plan, pids: dict[str, int]) -> Point:
    """One point, from an empty namespace to an empty namespace; `pids` of the cluster's components."""
    namespace = f"scale-{plan.pools}-{int(time.time())}"
    kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    with tempfile.TemporaryDirectory(prefix="millpond-scale-") as folder:
        server = NatsServer(Path(folder) / "nats").start()
        environment = make_environment(Path(folder))
        works = Works(kube.within(namespace), server, Path(folder), own_sessions=True, environment=environment)
        try:
            return await _measure(works, server, plan, pids)
        finally:
            works.stop_all()
            server.stop()
            kube.request("DELETE", f"/api/v1/namespaces/{namespace}")


async def _measure(works: Works, server: NatsServer, plan: Plan, pids: dict[str, int]) -> Point:
    port = free_port()
    operator = works.start_operator(http_port=port, http_host="127.0.0.1", lease_seconds=30, resync_seconds=30)
    # Only the operator runs as its image has it.
    hands = start_hands(replace(works, environment={}), server)
    hands.await_event("hands ready")
    transport = await Transport.connect(server.url, "bench scale", timeout=30)
    names = [f"pool-{number:04d}" for number in range(plan.pools)]
    try:
        async with await Api.connect(str(works.kube.kubeconfig)) as api:
            site = Site(api, works, transport, names, operator, hands)
            around = pids | {"hands": hands.popen.pid, "nats-server": server.pid}
            return await Play(site, Meter(operator.popen.pid, port, around), plan).run()
    finally:
        await transport.close()
        # Ignored by git: what to read when a figure surprises.
        (RESULTS / f"scale-operator-{plan.pools}.log").write_text(operator.text())


def install(kube: Kube) -> None:
    """Millpond's kinds."""
    kube.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    for plural in KINDS:
        kube.kubectl("wait", "--for=condition=Established", f"crd/{plural}.millpond.dev", "--timeout=60s")


def read_pids(name: str) -> dict[str, int]:
    """The processes of the cluster, by component."""
    paths = ClusterPaths.of(name)
    state = read_state(paths)
    return {component: one.pid for component, one in Components(paths, state).running().items()} if state else {}


async def run(options: argparse.Namespace) -> int:
    """0 when everything that was asked for was seen."""
    sizes = [int(pools) for pools in options.pools.split(",")]
    plans = [Plan(pools, options.workers, options.seconds, patience=options.patience) for pools in sizes]
    largest = max(plan.pools * plan.workers for plan in plans)
    cluster = await asyncio.to_thread(Cluster.up, options.name, "kwok", fake_nodes=max(1, -(-largest // PODS_PER_NODE)))
    kube = Kube(cluster.kubeconfig)
    install(kube)
    points = report.read(RESULTS) if options.add else []
    for plan in plans:
        measured = await measure(kube, plan, read_pids(options.name))
        others = [point for point in points if point.plan.pools != plan.pools]
        points = sorted([*others, measured], key=lambda point: point.plan.pools)
        size = f"--pools {options.pools} --workers {options.workers}"
        command = f"python -m bench.scale {size} --seconds {options.seconds:g} --patience {options.patience:g}"
        report.write(points, (command, options.note), RESULTS, options.document)
    say("\n" + report.make_table(report.make_rows(points)) + "\n")
    say(report.make_table(report.make_figures(points)) + "\n")
    lines = report.judge(points)
    say("\n".join(lines))
    if not options.keep:
        await asyncio.to_thread(cluster.down)
    return 1 if any(not line.startswith("yes") for line in lines) else 0


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", default="10,100,1000", help="points of the curve")
    parser.add_argument("--workers", type=int, default=20, help="workers of each pool")
    parser.add_argument("--seconds", type=float, default=60.0, help="the steady minute")
    parser.add_argument("--patience", type=float, default=1800.0, help="seconds for all workers to come, and to go")
    parser.add_argument("--name", default="scale", help="the cluster's name")
    parser.add_argument("--add", action="store_true", help="show them beside the points that were measured last")
    parser.add_argument("--note", default="", help="a sentence for the page: what else the machine did")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
