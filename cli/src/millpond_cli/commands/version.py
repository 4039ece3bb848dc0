"""`millpond version`: of this command, and of what the cluster serves."""

from importlib import metadata
from typing import Annotated

import typer
from millpond_api import API_VERSION

from millpond_cli.cluster import Request, connect
from millpond_cli.options import Target, with_target


@with_target
def version(
    target: Target,
    client: Annotated[bool, typer.Option("--client", help="Only this command's version; asks no cluster.")] = False,
) -> None:
    """Show the version of this command and of the cluster."""
    print(f"millpond {metadata.version('millpond-cli')} ({API_VERSION})")
    if client:
        return
    cluster = connect(target)
    server = cluster.json(Request("GET", "/version", "the cluster's version"))
    kinds = cluster.json(Request("GET", f"/apis/{API_VERSION}", "Millpond's kinds"))
    names = sorted(r["kind"] for r in kinds.get("resources", []) if "/" not in r["name"])
    print(f"cluster: Kubernetes {server.get('gitVersion', '?')}, serves {', '.join(names)}")
