"""`millpond explain`: why a pool has so many workers. Owns the options and the printing."""

from datetime import datetime
from typing import Annotated

import typer
from millpond_api.events import utc_now
from millpond_scaling.records import Record

from millpond_cli import ledger
from millpond_cli.cluster import connect, split_name
from millpond_cli.errors import CliError
from millpond_cli.explaining import Story, tell_pool, tell_record
from millpond_cli.manifests import parse_past
from millpond_cli.options import NatsOption, Target, with_target
from millpond_cli.output import print_table


@with_target
def explain(
    target: Target,
    names: Annotated[list[str], typer.Argument(metavar="pool NAME", help="pool NAME, or just NAME.")],
    at: Annotated[
        str, typer.Option(metavar="TIME", help="The decision in force then: a time, or -10m. Reads the ledger.")
    ] = "",
    full: Annotated[bool, typer.Option("--full", help="Also the rules of the last decision, from the ledger.")] = False,
    nats: NatsOption = "",
) -> None:
    """Tell in sentences why a pool has so many workers."""
    name = pool_name(names)
    now = utc_now()
    if not at:
        show(tell_pool(connect(target).read("workerpools", name), now))
    if at or full:
        moment = parse_past(at, "--at", now) if at else now
        show(tell_record(_record(ledger.Source(target, name, nats), moment), moment), gap=not at)


def _record(source: ledger.Source, moment: datetime) -> Record:
    record = ledger.read_at(source, moment)
    if record is None:
        raise CliError(
            f"the ledger holds no decision of pool {source.pool} at or before {moment.isoformat(timespec='seconds')}: "
            "it keeps 7 days; `millpond get pools` shows what there is"
        )
    return record


def pool_name(names: list[str]) -> str:
    """NAME of `pool NAME`, `pool/NAME` or `NAME`."""
    kind, name = split_name("/".join(names))
    if len(names) > 2 or kind not in ("", "pool") or not name:
        raise CliError(f"{' '.join(names)!r}: write `pool NAME`; only pools are explained")
    return name


def show(story: Story, gap: bool = False) -> None:
    """Lines, then tables."""
    if gap:
        print()
    for line in story.lines:
        print(line)
    for section in story.sections:
        print(f"\n{section.title}:")
        print_table(section.columns, section.rows)
