"""`millpond get`: pools, tasks and workers as tables or JSON.

Owns the options. `kubectl get -o wide` shows the same objects; this adds filters and what the workers run.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from millpond_api.events import utc_now

from millpond_cli.cluster import Cluster, Object, connect
from millpond_cli.errors import CliError
from millpond_cli.options import EverywhereOption, Target, with_target
from millpond_cli.output import print_json, print_table, say
from millpond_cli.rows import (
    POOL_COLUMNS,
    TASK_COLUMNS,
    WORKER_COLUMNS,
    Row,
    pick,
    pool_row,
    task_row,
    worker_row,
)

ALIASES = {
    "workerpools": ("pools", "pool", "wp", "workerpool"),
    "tasks": ("task", "mt"),
    "workers": ("worker", "mw"),
}


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True)
class Wanted:
    """Which objects: all of a kind, or the named ones, and what they must be like."""

    plural: str
    names: list[str]
    pool: str = ""
    phase: str = ""
    everywhere: bool = False


@with_target
def get(
    target: Target,
    kind: Annotated[str, typer.Argument(help="pools, tasks or workers")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these.")] = None,
    output: Annotated[Format, typer.Option("-o", "--output", help="How to print.")] = Format.TABLE,
    phase: Annotated[str, typer.Option("--phase", "--state", help="Only in this phase or state.")] = "",
    pool: Annotated[str, typer.Option(help="Only of this pool.")] = "",
    everywhere: EverywhereOption = False,
) -> None:
    """Show pools, tasks or workers."""
    plural = parse_kind(kind)
    if plural == "workerpools" and phase:
        raise CliError("pools have no phase: --phase belongs to `get tasks` and `get workers`")
    wanted = Wanted(plural, names or [], pool, phase, everywhere)
    items = read(connect(target), wanted)
    if output is Format.JSON:
        print_json(items[0] if len(wanted.names) == 1 and items else {"items": items})
    elif items:
        columns, rows = table_of(plural, items, utc_now(), everywhere)
        print_table(columns, rows)
    else:
        say(f"no {'pools' if plural == 'workerpools' else plural} found")


def parse_kind(text: str) -> str:
    """The plural in the API for what people call it."""
    for plural, names in ALIASES.items():
        if text.lower() in (plural, *names):
            return plural
    raise CliError(f"{text!r} is not a kind: write pools, tasks or workers")


def read(cluster: Cluster, wanted: Wanted) -> list[Object]:
    """The objects, sorted by namespace and name."""
    if wanted.names:
        items = [cluster.read(wanted.plural, name) for name in wanted.names]
    else:
        items = cluster.list(wanted.plural, wanted.everywhere).items
    chosen = pick(items, wanted.pool, wanted.phase)
    return sorted(chosen, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))


def table_of(
    plural: str, items: list[Object], now: datetime, everywhere: bool = False
) -> tuple[tuple[str, ...], list[Row]]:
    """Columns and rows of a kind."""
    if plural == "workerpools":
        return POOL_COLUMNS, [pool_row(item, everywhere) for item in items]
    if plural == "tasks":
        return TASK_COLUMNS, [task_row(item, now, everywhere) for item in items]
    return WORKER_COLUMNS, [worker_row(item, now, everywhere) for item in items]
