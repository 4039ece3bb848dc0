"""`millpond drain worker NAME`: has a worker finish what it runs and take nothing new.

Owns the options. A remote worker ends by itself then; a pod's is replaced by the operator if the pool needs it.
"""

import asyncio
from typing import Annotated

import typer

from millpond_cli.cluster import connect, split_name
from millpond_cli.draining import drain as drain_worker
from millpond_cli.errors import CliError
from millpond_cli.forwarding import broker
from millpond_cli.manifests import parse_seconds
from millpond_cli.options import NatsOption, Target, with_target


@with_target
def drain(
    target: Target,
    names: Annotated[list[str], typer.Argument(metavar="worker NAME", help="worker NAME, or just NAME.")],
    timeout: Annotated[str, typer.Option(help="How long to wait until it runs nothing; 0s only asks.")] = "10m",
    nats: NatsOption = "",
) -> None:
    """Have a worker finish what it runs and take nothing new. Exit code 1 when time was up first."""
    kind, name = split_name("/".join(names))
    if len(names) > 2 or kind not in ("", "worker") or not name:
        raise CliError(f"{' '.join(names)!r}: write `worker NAME`; only workers are drained")
    seconds = parse_seconds(timeout, "--timeout")
    worker = connect(target).read("workers", name)
    with broker(target, nats) as (url, namespace):
        where = (namespace, str(worker["spec"]["pool"]), name)
        done = asyncio.run(drain_worker(url, where, seconds, lambda left: print(f"worker/{name}: {_said(left)}")))
    if not done and seconds:
        raise CliError(f"{name} still runs tasks after {timeout}; it takes nothing new and goes on draining")


def _said(left: int) -> str:
    return f"draining, {left} in flight" if left else "drained"
