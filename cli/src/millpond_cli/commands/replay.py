"""`millpond replay`: recorded decisions made again, with the same policy or another. Owns the options and the printing.

With the recorded policy every decision must come out the same, bit for bit: exit code 1 when one does not. With --set
it tells what a changed policy would have decided at each recorded moment, on the same observation and memory: how the
queue would have gone on is `millpond simulate`'s matter.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from millpond_api.events import utc_now
from millpond_scaling import Policy
from millpond_scaling.explain import difference_text
from millpond_scaling.records import Difference, Record, again
from millpond_scaling.whatif import WhatIfError, change_policy

from millpond_cli import ledger
from millpond_cli.cluster import split_name
from millpond_cli.errors import CliError
from millpond_cli.manifests import parse_argument, parse_past
from millpond_cli.options import NatsOption, Target, with_target
from millpond_cli.output import print_table, say
from millpond_cli.rows import Row

SHOWN = 50
"""Differences that are printed; the rest is counted."""


@dataclass(frozen=True)
class Outcome:
    """A record and how it came out again; None: the same."""

    record: Record
    difference: Difference | None


@with_target
def replay(
    target: Target,
    pool: Annotated[str, typer.Argument(help="The WorkerPool; of a file, only its records.")] = "",
    file: Annotated[Path | None, typer.Option(help="Read records from here instead of the ledger.")] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="From then on: a time, or -1h.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Up to then: a time, or -10m.")] = "",
    save: Annotated[Path | None, typer.Option(help="Write what was read to this file, one record a line.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="What if: scaling.maxWorkers=40. Repeat.")
    ] = None,
    nats: NatsOption = "",
) -> None:
    """Make recorded scaling decisions again, and compare."""
    now = utc_now()
    span = ledger.Span(
        parse_past(since, "--since", now) if since else None, parse_past(until, "--until", now) if until else None
    )
    _, name = split_name(pool)
    changes = parse_settings(settings or [])
    found = read(target, name, file, span, nats)
    if save:
        save.write_bytes(b"".join(line + b"\n" for line in found.lines))
        say(f"{len(found.lines)} records written to {save}")
    outcomes = [make_again(record, changes) for record in found.records]
    (tell_what_if if changes else tell_replay)(outcomes)
    for text in found.unreadable[:SHOWN]:
        say(f"not readable: {text}")
    different = not changes and any(outcome.difference for outcome in outcomes)
    if different or found.unreadable or not found.records:
        raise typer.Exit(1)


def read(target: Target, pool: str, file: Path | None, span: ledger.Span, nats: str) -> ledger.Found:
    """The records, from the file or the ledger."""
    if file is None and not pool:
        raise CliError("name a pool, or a file with --file")
    found = ledger.read_file(file, span) if file else ledger.read_stream(ledger.Source(target, pool, nats), span)
    if file and pool:
        kept = [(r, line) for r, line in zip(found.records, found.lines, strict=True) if r.pool == pool]
        found.records, found.lines = [r for r, _ in kept], [line for _, line in kept]
    if not found.records:
        say("no records there: a pool at rest makes none; the ledger keeps 7 days")
    return found


def parse_settings(pairs: list[str]) -> dict[str, object]:
    """`FIELD=VALUE` pairs; refused at once when a field is unknown."""
    changes: dict[str, object] = {}
    for pair in pairs:
        field, separator, value = pair.partition("=")
        if not separator:
            raise CliError(f"--set {pair!r} is not FIELD=VALUE, such as --set scaling.maxWorkers=40")
        changes[field.removeprefix("spec.")] = parse_argument(value)
    try:
        change_policy(Policy(min_workers=0, max_workers=10**6), changes)
    except WhatIfError as error:
        raise CliError(f"--set {error}") from None
    return changes


def make_again(record: Record, changes: dict[str, object]) -> Outcome:
    """The record decided again, under the changed policy if there are changes."""
    try:
        policy = change_policy(record.policy, changes) if changes else None
    except WhatIfError as error:
        raise CliError(f"--set {error}") from None
    return Outcome(record, again(record, policy))


def tell_replay(outcomes: list[Outcome]) -> None:
    """How many came out the same, and each that did not."""
    different = [outcome for outcome in outcomes if outcome.difference]
    print(f"{_span(outcomes)}{len(outcomes) - len(different)} identical, {len(different)} different")
    for outcome in different[:SHOWN]:
        assert outcome.difference is not None
        print(f"{outcome.record.at}  {_place(outcome.record)}  {difference_text(outcome.difference)}")
    if len(different) > SHOWN:
        print(f"… and {len(different) - SHOWN} more")


def tell_what_if(outcomes: list[Outcome]) -> None:
    """Where the number would have been another one."""
    other = [outcome for outcome in outcomes if outcome.difference and outcome.difference.number]
    print(f"{_span(outcomes)}another number in {len(other)} of them, each on the recorded observation")
    rows = [_what_if_row(outcome) for outcome in other[:SHOWN]]
    if rows:
        print_table(("AT", "POOL", "FROM", "RECORDED", "WHAT IF", "SENTENCE"), rows)
    if len(other) > SHOWN:
        print(f"… and {len(other) - SHOWN} more")


def _what_if_row(outcome: Outcome) -> Row:
    record, difference = outcome.record, outcome.difference
    assert difference is not None
    old, new = difference.recorded, difference.made
    return Row(record.at, (record.at, _place(record), str(old.current), str(old.target), str(new.target), new.message))


def _place(record: Record) -> str:
    return "/".join(filter(None, (record.namespace, record.pool)))


def _span(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return "0 decisions: "
    first, last = outcomes[0].record, outcomes[-1].record
    pools = sorted({_place(outcome.record) for outcome in outcomes})
    what = pools[0] if len(pools) == 1 else f"{len(pools)} pools"
    return f"{len(outcomes)} decisions of {what} from {first.at} to {last.at}: "
