"""`millpond watch`: lag, workers and states, live. Owns the options; `live` and `view` do the work."""

from typing import Annotated

import typer

from millpond_cli.cluster import connect, split_name
from millpond_cli.live import Watching, run_view
from millpond_cli.options import EverywhereOption, Target, with_target


@with_target
def watch(
    target: Target,
    pool: Annotated[str, typer.Argument(metavar="[POOL]", help="Only this pool.")] = "",
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End when no task is open and every queue is empty.")
    ] = False,
    everywhere: EverywhereOption = False,
) -> None:
    """Show pools and their workers as they change."""
    watching = Watching(
        pool=split_name(pool)[1],
        everywhere=everywhere,
        with_tasks=until_idle,
        until=lambda view: until_idle and view.idle,
    )
    run_view(connect(target), watching)
