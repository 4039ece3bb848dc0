"""`millpond signal`, `millpond query` and `millpond workers`: speak to running tasks, and find workers, over NATS.

Owns their options and what is printed. A task is a Task object, or with --pool the id of any task of that pool: then
Kubernetes is not asked (given --nats and -n).
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from millpond_cli.asking import Place, ask
from millpond_cli.cluster import connect, split_name
from millpond_cli.errors import CliError
from millpond_cli.manifests import parse_seconds
from millpond_cli.options import NatsOption, Target, with_target
from millpond_cli.output import print_json, print_table
from millpond_cli.rows import Row

if TYPE_CHECKING:
    from millpond.client import Client
    from millpond.handle import TaskHandle

T = TypeVar("T")
COLUMNS = ("WORKER", "NAMESPACE", "POOL", "STATE", "SLOTS", "IN FLIGHT", "DONE", "FAILED", "MEAN", "HANDLERS")
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A Task object; with --pool the id of a task.")]
PoolOption = Annotated[str, typer.Option("--pool", help="TASK is the id of a task of this pool.")]


@with_target
def signal(
    target: Target,
    task: TaskArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.")],
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD", help="JSON, or else a text.")] = "null",
    pool: PoolOption = "",
    nats: NatsOption = "",
) -> None:
    """Send a task a signal; its handler reads it by ctx.signals, also one that starts later."""
    _with_task(Place(target, nats), (task, pool), lambda handle: handle.signal(name, _read(payload)))
    print(f"signal {name} stored for task {task}")


@with_target
def query(
    target: Target,
    task: TaskArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The query's name.")],
    args: Annotated[list[str] | None, typer.Argument(metavar="ARG...", help="JSON, or else texts.")] = None,
    timeout: Annotated[str, typer.Option(help="How long its handler has to answer.")] = "5s",
    pool: PoolOption = "",
    nats: NatsOption = "",
) -> None:
    """Ask the handler that runs a task; prints its answer as JSON."""
    seconds, given = parse_seconds(timeout, "--timeout"), [_read(one) for one in args or ()]
    place = Place(target, nats)
    print_json(_with_task(place, (task, pool), lambda handle: handle.query(name, *given, timeout=seconds)))


@with_target
def workers(
    target: Target,
    wait: Annotated[str, typer.Option(help="How long to listen for answers.")] = "2s",
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
    nats: NatsOption = "",
) -> None:
    """Workers that answer on NATS now, of all pools and namespaces. The census is `millpond get workers`."""
    from millpond.discovery import discover

    seconds = parse_seconds(wait, "--wait")
    found = ask(Place(target, nats), lambda client: discover(client.transport, seconds))
    if output == "json":
        print_json([asdict(one) for one in found])
        return
    rows = []
    for one in found:
        counts = (str(one.slots), str(one.in_flight), str(one.served), str(one.failed), f"{one.mean * 1000:.1f}ms")
        cells = (one.worker, one.namespace, one.pool, one.state, *counts, ",".join(one.handlers))
        rows.append(Row(one.worker, cells, one.state))
    print_table(COLUMNS, rows)


def _with_task(place: Place, named: tuple[str, str], work: "Callable[[TaskHandle], Awaitable[T]]") -> T:
    """`work` with the task's handle; a Task object's id is its uid."""
    task, pool = named
    if not pool:
        kind, name = split_name(task)
        if kind not in ("", "task"):
            raise CliError(f"{task} is no task: give the name of a Task")
        found = connect(place.target).read("tasks", name)
        task, pool = found["metadata"]["uid"], found["spec"]["pool"]

    async def run(client: "Client") -> T:
        return await work(client.handle(pool, task))

    return ask(place, run)


def _read(text: str) -> Any:
    """JSON where it is some, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
