"""`millpond logs`: the workers' logs by pool, worker or task. Owns the options and the prefixes."""

import threading
from typing import Annotated

import typer

from millpond_cli.cluster import connect
from millpond_cli.logreading import find_source, follow_logs, read_logs
from millpond_cli.options import Target, with_target
from millpond_cli.output import say


@with_target
def logs(
    target: Target,
    name: Annotated[str, typer.Argument(metavar="POOL|TASK|WORKER", help="A name, or pool/x, task/x, worker/x.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written from now on.")] = False,
) -> None:
    """Show workers' logs; of a task only its own lines."""
    cluster = connect(target)
    source = find_source(cluster, name)
    several = bool(source.pool) or len(source.pods) > 1
    lines = follow_logs(cluster, source, threading.Event()) if follow else read_logs(cluster, source)
    silent = True
    for line in lines:
        silent = False
        print(f"[{line.pod}] {line.text}" if several else line.text, flush=follow)
    if silent:
        say(f"the log of {', '.join(source.pods) or source.what} holds no line of {source.what}")
