"""The main job on a real Kubernetes, shown: `python examples/stdlib-census/demo.py` (or `make demo`).

Owns the order of the steps: cluster, images and chart; the example applied; one task for each file of the standard
library; the live view until the pool is back at zero; the report; a summary whose promises are checked. Every step is
an ordinary command that is shown, and can be repeated: what an earlier run left is removed first. LIMIT=100 takes only
the first files. It ends with exit code 1 when anything is not as promised.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from demo_figures import (
    SHOWN_FAILURES,
    Figures,
    Seen,
    broken_promises,
    head_of_sections,
    make_figures,
    summary_rows,
    wake_ms,
)
from demo_running import Background, DemoFailed, console, kubectl, python, run_together, show_output, step
from millpond_api import LABEL_POOL
from millpond_cli.cluster import Cluster, connect
from millpond_cli.errors import CliError
from millpond_cli.live import Watching, run_view
from millpond_cli.manifests import Naming, Work, make_batch, make_task
from millpond_cli.options import Target
from millpond_cli.rows import status_of
from millpond_cli.submitting import create_all, wait_for
from millpond_cli.view import View, pool_of
from rich.table import Table
from rich.text import Text

POOL, NAMESPACE, SYSTEM = "census", "default", "millpond-system"
FIRST_RESULT_SECONDS = 180.0
"""Until the first worker has started and listed the files: seconds when idle, a minute with cold caches."""
DRAIN_SECONDS = 900.0
"""Until all files are parsed: a minute or two on two idle cores. Past this something is stuck, and the demo says so."""
REPORT_SECONDS, ZERO_SECONDS = 120, 120.0
SAMPLE_LINES = 6
DELETERS = 8
VALUES = (
    "image.repository=localhost/millpond-operator",
    "image.tag=dev",
    "nats.image.repository=localhost/millpond-nats",
    "nats.image.tag=dev",
    # A cluster for trying things out has no storage class to count on.
    "nats.storage.type=emptyDir",
)
EXPLORE = (
    ("pools, tasks and workers", "kubectl get workerpools,tasks,workers -o wide"),
    ("the story of a pool, a failed task, a worker", f"kubectl describe workerpool {POOL}"),
    ("the failed ones with reasons", f"uv run millpond get tasks --pool {POOL} --phase Failed"),
    ("every field explained", "kubectl explain workerpool.spec.scaling"),
    ("the live view", "uv run millpond watch"),
    ("one task from here", f"uv run millpond submit {POOL} census.parse ast.py --wait"),
    ("remove everything", "make demo-down"),
)

Object = dict[str, Any]


def set_up() -> None:
    """Cluster, images, chart. Building needs no cluster, so the two run side by side."""
    with step("a Kubernetes cluster, and the images built"):
        run_together(
            python("cluster", "-m", "millpond_cluster.main", "up", "--profile", "node"),
            python("images", "scripts/images.py"),
        )
    use_kubeconfig()
    with step("the images loaded into the node"):
        loaded = run_together(python("images", "scripts/images.py", "--load"))
    with step("the chart installed"):
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "crds/")
        installed = kubectl("-n", SYSTEM, "get", "deployments", "-o", "name", show=False).split()
        settings = [argument for value in VALUES for argument in ("--set", value)]
        run_together(python("helm", "scripts/helm.py", "upgrade", "millpond", "-n", SYSTEM, *settings))
        if any("millpond-operator" in line and ", loaded" in line for line in loaded):
            # The tag is the same, so Helm saw no change: the pods of the older build must be replaced.
            for deployment in installed:
                kubectl("-n", SYSTEM, "rollout", "restart", deployment)
                kubectl("-n", SYSTEM, "rollout", "status", deployment, "--timeout=180s")


def use_kubeconfig() -> None:
    """Points kubectl and Millpond's own client at the demo's cluster."""
    path = run_together(python("cluster", "-m", "millpond_cluster.main", "kubeconfig"))[-1]
    os.environ["KUBECONFIG"] = path


def tidy(cluster: Cluster) -> None:
    """Removes what an earlier run left, so that names are free and figures are this run's."""
    left = [task for task in cluster.list("tasks").items if pool_of(task) == POOL]
    if cluster.find("workerpools", POOL) is None and not left:
        return
    with step(f"an earlier run's pool and {len(left)} tasks removed"):
        kubectl("delete", "workerpool", POOL, "--ignore-not-found", "--timeout=120s")
        with ThreadPoolExecutor(DELETERS) as pool:
            list(pool.map(lambda task: cluster.delete("tasks", task["metadata"]["name"]), left))


def list_files(cluster: Cluster) -> tuple[list[str], float | None]:
    """Applies the example and waits for the list of files; it and the milliseconds that waking from zero took."""
    with step("the example applied: a pool at zero and a task that lists the files"):
        show_output(kubectl("apply", "-f", "examples/stdlib-census/"))
        with console.status("waiting for its first worker"):
            first = wait_for(cluster, ["census-files"], FIRST_RESULT_SECONDS).get("census-files", {})
        files = status_of(first).get("result")
        if not isinstance(files, list):
            raise DemoFailed(f"census-files gave no list: kubectl describe task census-files ({status_of(first)})")
        decisions = status_of(cluster.read("workerpools", POOL)).get("decisions") or []
        console.print(f"  {len(files)} source files in the worker image's standard library")
    limit = int(os.environ.get("LIMIT") or len(files))
    return files[:limit], wake_ms(first, decisions)


def run_tasks(cluster: Cluster, files: list[str], seen: Seen) -> None:
    """One task for each file, and the live view until none is open."""
    manifests = make_batch(Work(POOL, "census.parse"), [[path] for path in files], Naming("parse"))
    created = Background(lambda: _create(cluster, manifests))
    sampled = False
    end = time.monotonic() + DRAIN_SECONDS

    def until(view: View) -> bool:
        nonlocal sampled
        seen.look(view.pools.values(), view.workers.values())
        finished = created.done
        if time.monotonic() > end:
            raise DemoFailed(f"{len(view.open_tasks)} tasks have not ended within {DRAIN_SECONDS:g} s")
        if not sampled and seen.ended * 2 > len(files):
            sampled = True
            sample()
        return finished and view.idle

    with step(f"{len(files)} tasks, one a file, submitted and worked off (the view is `millpond watch {POOL}`)"):
        run_view(cluster, Watching(pool=POOL, with_tasks=True, until=until))


def _create(cluster: Cluster, manifests: list[Object]) -> None:
    began = time.monotonic()
    count = sum(1 for _ in create_all(cluster, manifests, lambda done: None))
    took = time.monotonic() - began
    print(f"  {count} tasks created in {took:.1f} s ({count / took:.0f}/s)", flush=True)


def sample() -> None:
    """What kubectl shows in the middle of it."""
    print("  $ kubectl get workerpools,tasks,workers -o wide")
    text = kubectl("get", "workerpools,tasks,workers", "-o", "wide", show=False)
    width = console.width - 5 if console.is_terminal else None
    print("\n".join(f"    {line[:width]}" for line in head_of_sections(text, SAMPLE_LINES).splitlines()), flush=True)


def make_report(cluster: Cluster, tasks: list[Object]) -> Object:
    """The report task folds all results; what it returned."""
    with step("the report: one task that folds the results"):
        ids = [str(status_of(task).get("taskId")) for task in tasks]
        for _ in create_all(cluster, [_report_task(ids)], lambda done: None):
            pass
        kubectl("wait", "--for=condition=Complete", "task/census-report", f"--timeout={REPORT_SECONDS}s")
        report = status_of(cluster.read("tasks", "census-report")).get("result")
        if not isinstance(report, dict):
            raise DemoFailed("census-report gave no report: kubectl describe task census-report")
        return report


def _report_task(ids: list[str]) -> Object:
    return make_task(Work(POOL, "census.report"), [POOL, ids], Naming("census-report"))


def wait_for_zero(cluster: Cluster, seen: Seen) -> tuple[float, int]:
    """Waits until no worker is left; the seconds since the report, and the pods still there."""
    with step("back to zero workers"):
        end = time.monotonic() + ZERO_SECONDS

        def until(view: View) -> bool:
            seen.look(view.pools.values(), view.workers.values())
            statuses = [status_of(pool) for pool in view.pools.values()]
            gone = bool(statuses) and not any(s.get("desired") or s.get("replicas") for s in statuses)
            return gone or time.monotonic() > end

        began = time.monotonic()
        run_view(cluster, Watching(pool=POOL, until=until))
        took = time.monotonic() - began
        pods = cluster.list("pods", query={"labelSelector": f"{LABEL_POOL}={POOL}"}).items
        return took, sum(1 for pod in pods if "deletionTimestamp" not in pod["metadata"])


def summarize(figures: Figures, report: Object, zero_seconds: float) -> None:
    """The summary on the terminal."""
    console.rule("[bold]summary[/bold]", align="left")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for what, value in summary_rows(figures, zero_seconds):
        table.add_row(what, Text(value, style="bold"))
    console.print(table)
    totals = ", ".join(f"{report.get(key, 0):,} {key}" for key in ("lines", "functions", "classes"))
    console.print(f"\n{report.get('parsed', 0)} files parsed: {totals}. The most complex functions:", soft_wrap=True)
    for place, function in enumerate(report.get("mostComplex", []), 1):
        where = f"{function['path']}:{function['line']}"
        console.print(Text(f"  {place:2}. {function['complexity']:4}  {function['name']:32} {where}"))
    if figures.failures:
        console.print(f"\n{len(figures.failures)} tasks Failed, as they should: these files are no Python 3")
    for line in figures.failures[:SHOWN_FAILURES]:
        console.print(Text(f"  {line}"), soft_wrap=True)
    console.print(f"\nTo explore (export KUBECONFIG={os.environ.get('KUBECONFIG', '')}):", soft_wrap=True)
    for what, command in EXPLORE:
        console.print(Text(f"  {command:64} # {what}"), soft_wrap=True)


def run(with_setup: bool) -> int:
    """The whole demo; 0 when every promise was kept."""
    began = time.monotonic()
    if with_setup:
        set_up()
    cluster = connect(Target(namespace=NAMESPACE))
    tidy(cluster)
    seen = Seen()
    files, woke_in = list_files(cluster)
    run_tasks(cluster, files, seen)
    tasks = [task for task in cluster.list("tasks").items if task["spec"]["handler"] == "census.parse"]
    report = make_report(cluster, tasks)
    zero_seconds, left = wait_for_zero(cluster, seen)
    figures = make_figures(len(files), tasks, woke_in, seen)
    summarize(figures, report, zero_seconds)
    broken = broken_promises(figures, report, left)
    for sentence in broken:
        console.print(Text(f"✘ {sentence}", style="bold red"))
    verdict = "not as promised" if broken else "all as promised"
    console.print(f"\n[bold]{verdict}[/bold], {time.monotonic() - began:.0f} s in all")
    return 1 if broken else 0


def take_down() -> int:
    """Uninstalls the chart and removes the cluster; nothing happens to what is not there."""
    with step("the demo removed"):
        try:
            use_kubeconfig()
            run_together(python("helm", "scripts/helm.py", "uninstall", "millpond", "-n", SYSTEM))
        except DemoFailed as error:
            # A cluster that is gone or dead cannot uninstall anything; taking it down is what matters.
            console.print(Text(f"  the chart was not uninstalled: {error}", style="yellow"), soft_wrap=True)
        run_together(python("cluster", "-m", "millpond_cluster.main", "down"))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Millpond's main job, shown on a real Kubernetes.")
    parser.add_argument("--down", action="store_true", help="uninstall the chart and remove the cluster")
    parser.add_argument("--no-setup", action="store_true", help="use the cluster and the chart that KUBECONFIG names")
    options = parser.parse_args()
    try:
        return take_down() if options.down else run(with_setup=not options.no_setup)
    except (DemoFailed, CliError) as error:
        console.print(Text(f"✘ {error}", style="bold red"), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
