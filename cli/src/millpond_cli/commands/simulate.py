"""`millpond simulate`: policies side by side on one trace. Owns the options, the reading of files and the printing.

It asks no cluster: figures from here compare policies under equal assumptions and are no measurement.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from millpond_api.v1alpha1 import WorkerPool, WorkerPoolSpec
from millpond_scaling import Policy, make_policy
from millpond_scaling.policy import make_plan
from millpond_scaling.simulate import Arrival, PodStart, Setting
from millpond_scaling.simulate.contest import NAMES, Contest, dominated
from millpond_scaling.simulate.report import COLUMNS, plain, row, sparks, svg
from millpond_scaling.simulate.traces import SHAPES, Service, TraceError, generate, read_csv
from millpond_scaling.whatif import WhatIfError, change_policy
from pydantic import ValidationError

from millpond_cli.commands.importing import read_documents
from millpond_cli.commands.replay import parse_settings
from millpond_cli.errors import CliError
from millpond_cli.manifests import parse_moment, parse_seconds
from millpond_cli.output import print_json, print_table, say
from millpond_cli.rows import Row

DEFAULT = Policy(max_workers=100)


@dataclass(frozen=True)
class Work:
    """How service times are drawn where the trace does not give them; None: the trace's own."""

    median: float | None
    sigma: float


def simulate(
    trace: Annotated[str, typer.Argument(help=f"{', '.join(SHAPES)}, or a CSV file of time,count[,service].")],
    pool: Annotated[Path | None, typer.Option(help="The WorkerPool whose policy is ours (YAML).")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change it: scaling.maxWorkers=40. Repeat.")
    ] = None,
    policies: Annotated[
        list[str] | None, typer.Option("--policy", help=f"Only these of {', '.join(NAMES)}. Repeat.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="KEDA's lagThreshold; lagPerSlot × slots when not given.")
    ] = None,
    service: Annotated[
        str, typer.Option(help="Median time of a task, such as 3s; the trace's own when not given.")
    ] = "",
    spread: Annotated[float, typer.Option(min=0, help="Sigma of the log-normal service time; 0 is constant.")] = 0.5,
    start: Annotated[str, typer.Option(help="Median start of a worker.")] = "1.2s",
    pull: Annotated[str, typer.Option(help="Time of an image pull, for --pull-share of the pods.")] = "0s",
    pull_share: Annotated[float, typer.Option(min=0, max=1)] = 0.0,
    grace: Annotated[str, typer.Option(help="What a pod that is told to go may take to finish its task.")] = "30s",
    begin: Annotated[
        str, typer.Option(metavar="TIME", help="When the trace begins, for schedules and the forecast.")
    ] = "2026-01-05T00:00:00Z",
    seed: Annotated[int, typer.Option(help="The same seed, the same figures.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Write the course of queue and workers to this SVG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Figures and series as JSON.")] = False,
) -> None:
    """Play a trace of arrivals through Millpond's policy and through the formulas of KEDA, Knative and Numaflow."""
    for name in policies or ():
        if name not in NAMES:
            raise CliError(f"--policy {name!r} is not one of {', '.join(NAMES)}")
    spec = read_spec(pool) if pool else None
    policy = read_policy(spec, settings or [])
    work = Work(parse_seconds(service, "--service") if service else None, spread)
    pods = PodStart(start=parse_seconds(start, "--start"), pull=parse_seconds(pull, "--pull"), pull_share=pull_share)
    setting = Setting(policy.slots, pods, grace=parse_seconds(grace, "--grace"), seed=seed)
    wall = datetime.fromisoformat(parse_moment(begin, "--begin", datetime.now(UTC))).timestamp()
    arrivals, plan = read_trace(trace, seed, work), make_plan(spec) if spec else None
    contest = Contest(arrivals, setting, policy, threshold, wall, plan)
    outcomes = contest.run(policies or NAMES)
    if plot:
        plot.write_text(svg(trace, outcomes), encoding="utf-8")
        say(f"plot written to {plot}")
    if as_json:
        print_json({"trace": trace, "tasks": len(contest.arrivals), "outcomes": [plain(one) for one in outcomes]})
        return
    print(f"{trace}: {len(contest.arrivals)} tasks, latencies in seconds from arrival to start")
    print_table([name.upper() for name in COLUMNS], [Row(one.policy, row(one, policy.slots)) for one in outcomes])
    print("\n" + "\n".join(sparks(outcomes)))
    for ours, rival in dominated(outcomes):
        print(f"\n{rival.policy} is better than {ours.policy} here: lower p99 and fewer worker-seconds")


def read_trace(trace: str, seed: int, work: Work) -> list[Arrival]:
    """A named shape, or a CSV file."""
    if trace in SHAPES:
        return generate(trace, seed, Service(work.median, work.sigma) if work.median else None)
    try:
        with open(trace, encoding="utf-8") as lines:
            return read_csv(lines, seed, Service(work.median or 3.0, work.sigma))
    except OSError as error:
        raise CliError(
            f"{trace!r} is none of {', '.join(SHAPES)}, and no file that can be read: {error.strerror}"
        ) from error
    except (TraceError, UnicodeDecodeError) as error:
        raise CliError(f"{trace}: {error}") from None


def read_policy(spec: WorkerPoolSpec | None, settings: list[str]) -> Policy:
    """The policy of a WorkerPool, or Millpond's defaults with 100 workers, with what is set changed."""
    try:
        policy = make_policy(spec) if spec else DEFAULT
        # Shadow is a matter of who acts; here nobody else does.
        return replace(change_policy(policy, parse_settings(settings)), shadow=False)
    except WhatIfError as error:
        raise CliError(f"--set {error}") from None
    except ValueError as error:
        raise CliError(f"--pool: {error}") from None


def read_spec(pool: Path) -> WorkerPoolSpec:
    """The spec of the one WorkerPool in a file."""
    found: list[dict[str, Any]] = [doc for doc in read_documents(pool) if doc.get("kind") == "WorkerPool"]
    if len(found) != 1:
        raise CliError(f"{pool} holds {len(found)} WorkerPools: give a file with one")
    try:
        return WorkerPool.model_validate(found[0]).spec
    except ValidationError as error:
        first = error.errors()[0]
        raise CliError(f"{pool}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
