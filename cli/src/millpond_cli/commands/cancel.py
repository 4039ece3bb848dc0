"""`millpond cancel` and `millpond unpin`: the two small writes on existing objects.

Owns their options. Cancelling is a request: the command waits until the tasks have ended and says how.
"""

from typing import Annotated

import typer

from millpond_cli.cluster import connect, split_name
from millpond_cli.errors import CliError
from millpond_cli.manifests import parse_seconds
from millpond_cli.options import Target, with_target
from millpond_cli.submitting import phase_of, wait_for


@with_target
def cancel(
    target: Target,
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Task objects.")],
    timeout: Annotated[str, typer.Option(help="How long to wait for them to end.")] = "1m",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only ask for it.")] = False,
) -> None:
    """Cancel tasks, waiting or running. Exit code 1 when one ended otherwise."""
    seconds = parse_seconds(timeout, "--timeout")
    cluster = connect(target)
    names = [_named("task", text) for text in tasks]
    for name in names:
        cluster.patch("tasks", name, {"spec": {"cancel": True}})
        if no_wait:
            print(f"task/{name} asked to cancel")
    if no_wait:
        return
    ended = wait_for(cluster, names, seconds)
    otherwise = []
    for name in names:
        phase = phase_of(ended[name]) if name in ended else "deleted"
        print(f"task/{name} {phase.lower()}")
        if phase != "Cancelled":
            otherwise.append(name)
    if otherwise:
        raise CliError(f"{', '.join(otherwise)} had ended before the cancel arrived")


@with_target
def unpin(target: Target, pool: Annotated[str, typer.Argument(help="The WorkerPool.")]) -> None:
    """Let a pool follow its queue again after `kubectl scale`."""
    cluster = connect(target)
    name = _named("pool", pool)
    held = (cluster.read("workerpools", name).get("spec") or {}).get("replicas")
    if held is None:
        print(f"pool/{name} follows its queue: nothing held it")
        return
    cluster.patch("workerpools", name, {"spec": {"replicas": None}})
    print(f"pool/{name} follows its queue again (it was held at {held})")


def _named(kind: str, text: str) -> str:
    """The name in `x` or `task/x`; CliError when it names another kind."""
    said, name = split_name(text)
    if said not in ("", kind):
        raise CliError(f"{text} is no {kind}: give the name of a {kind}")
    return name
