"""`millpond tree`: supervisors, their pools and workers, with recent restarts. Owns the options and the printing."""

from typing import Annotated

import typer
from millpond_api.events import utc_now

from millpond_cli.cluster import connect, split_name
from millpond_cli.commands.get import Format
from millpond_cli.errors import CliError
from millpond_cli.options import Target, with_target
from millpond_cli.output import print_json, say, stdout
from millpond_cli.trees import Found, draw, make_branches


@with_target
def tree(
    target: Target,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only the tree of this supervisor.")] = "",
    output: Annotated[Format, typer.Option("-o", "--output", help="How to print.")] = Format.TABLE,
) -> None:
    """Show supervisors, their pools and workers as a tree, with the last restarts and why."""
    cluster, wanted = connect(target), split_name(name)[1]
    found = Found(*(cluster.list(plural).items for plural in ("supervisors", "workerpools", "workers")))
    branches = make_branches(found, utc_now(), wanted)
    if wanted and not branches:
        raise CliError(f"there is no supervisor {wanted} in namespace {cluster.namespace}: see `millpond tree`")
    if output is Format.JSON:
        print_json({"items": [branch.to_data() for branch in branches]})
    elif not branches:
        say("no supervisors and no pools found")
    else:
        console = stdout()
        for branch in branches:
            console.print(draw(branch))
