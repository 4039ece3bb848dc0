"""`millpond dead`: the tasks that will not be tried again by themselves. Owns the options and what is printed.

`redrive` and `purge` want to be told which (a task, a filter or --all), because both are about other people's work;
`--dry-run` prints what they would take. Exit code 1 when a letter that was named could not be put back.
"""

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from millpond_api.events import utc_now

from millpond_cli.deadletters import COLUMNS, Letter, Place, Which, letter_row, read_letter, read_letters
from millpond_cli.deadletters import purge as throw_away
from millpond_cli.deadletters import redrive as put_back
from millpond_cli.errors import CliError
from millpond_cli.manifests import parse_seconds
from millpond_cli.options import NatsOption, Target, with_target
from millpond_cli.output import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Dead letters: tasks that will not be tried again by themselves.")

PoolOption = Annotated[str, typer.Option("--pool", help="Only of this pool.")]
HandlerOption = Annotated[str, typer.Option("--handler", help="Only of this handler; * and ? stand for any text.")]
ErrorOption = Annotated[str, typer.Option("--error", help="Only with this error, such as TimeoutError; * and ?.")]
OlderOption = Annotated[str, typer.Option("--older", help="Only those that died longer ago, such as 2h.")]
NewerOption = Annotated[str, typer.Option("--newer", help="Only those that died since then, such as 2h.")]
TasksArgument = Annotated[list[str] | None, typer.Argument(metavar="TASK...", help="Task ids, or names of Tasks.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every one of the namespace.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Only print which ones it would be.")]


@app.command("list")
@with_target
def list_letters(
    target: Target,
    tasks: TasksArgument = None,
    pool: PoolOption = "",
    handler: HandlerOption = "",
    error: ErrorOption = "",
    older: OlderOption = "",
    newer: NewerOption = "",
    output: Annotated[str, typer.Option("-o", "--output", help="json: everything, as a list.")] = "",
    nats: NatsOption = "",
) -> None:
    """List dead letters, oldest first."""
    if output not in ("", "json"):
        raise CliError(f"-o {output}: there is json")
    letters = read_letters(Place(target, nats), _which(tasks, pool, (handler, error), (older, newer)))
    if output:
        print_json([asdict(letter) for letter in letters])
    else:
        _print(letters)


@app.command("show")
@with_target
def show(
    target: Target,
    task: Annotated[str, typer.Argument(help="Task id, or name of a Task.")],
    pool: PoolOption = "",
    nats: NatsOption = "",
) -> None:
    """Show one dead letter: error, traceback, arguments, and how the workers ended that it took with it."""
    letter = read_letter(Place(target, nats), Which(pool=pool, tasks=(task,)))
    object_name = f" (Task {letter.object})" if letter.object else ""
    print(f"task      {letter.task}{object_name}")
    print(f"pool      {letter.pool}\nhandler   {letter.handler}")
    print(f"died      {letter.at:%Y-%m-%d %H:%M:%S} UTC, after {letter.attempts} attempts, {letter.redrives} redrives")
    print(f"error     {letter.error}: {letter.message}")
    for loss in letter.losses:
        print(f"worker    {loss}")
    print(f"arguments {letter.payload}")
    if letter.traceback:
        print(f"\n{letter.traceback.rstrip()}")


@app.command("redrive")
@with_target
def redrive(
    target: Target,
    tasks: TasksArgument = None,
    pool: PoolOption = "",
    handler: HandlerOption = "",
    error: ErrorOption = "",
    older: OlderOption = "",
    newer: NewerOption = "",
    every: AllOption = False,
    dry_run: DryOption = False,
    nats: NatsOption = "",
) -> None:
    """Put dead letters back into their queues, with a full set of attempts and their history."""
    which = _chosen(_which(tasks, pool, (handler, error), (older, newer)), every, "redrive")
    place = Place(target, nats)
    if dry_run:
        _print(read_letters(place, which))
        return
    done = put_back(place, which)
    _check_named(tasks or [], [letter for letter, _, _ in done])
    refused = [(letter, why) for letter, what, why in done if what == "refused"]
    for letter, why in refused:
        say(f"{letter.object or letter.task}: {why}")
    counts = Counter(what for _, what, _ in done)
    print(
        f"{counts['redriven']} redriven"
        + "".join(f", {counts[what]} {what}" for what in ("over", "refused") if counts[what])
    )
    if refused:
        raise CliError(f"{len(refused)} dead letters cannot be put back: see above")


@app.command("purge")
@with_target
def purge(
    target: Target,
    tasks: TasksArgument = None,
    pool: PoolOption = "",
    handler: HandlerOption = "",
    error: ErrorOption = "",
    older: OlderOption = "",
    newer: NewerOption = "",
    every: AllOption = False,
    dry_run: DryOption = False,
    nats: NatsOption = "",
) -> None:
    """Throw dead letters away for good; what the tasks' logs say stays."""
    which = _chosen(_which(tasks, pool, (handler, error), (older, newer)), every, "purge")
    place = Place(target, nats)
    if dry_run:
        _print(read_letters(place, which))
        return
    gone = throw_away(place, which)
    _check_named(tasks or [], gone)
    print(f"{len(gone)} purged")


def _which(tasks: list[str] | None, pool: str, kind: tuple[str, str], ages: tuple[str, str]) -> Which:
    """The options as what they mean: `kind` is handler and error, `ages` are --older and --newer."""
    older, newer = (
        parse_seconds(text, option) if text else None for text, option in zip(ages, ("--older", "--newer"), strict=True)
    )
    return Which(pool, *kind, older, newer, tuple(tasks or ()))


def _chosen(which: Which, every: bool, verb: str) -> Which:
    if every == which.narrows:
        raise CliError(f"say which to {verb}: TASK..., --pool, --handler, --error, --older, --newer, or --all alone")
    return which


def _check_named(tasks: list[str], found: list[Letter]) -> None:
    there = {name for letter in found for name in (letter.task, letter.object)}
    missing = [name for name in tasks if name not in there]
    if missing:
        raise CliError(f"{', '.join(missing)}: no dead letter of that name; `millpond dead list` shows what there is")


def _print(letters: list[Letter]) -> None:
    if not letters:
        say("no dead letters")
        return
    now = utc_now()
    print_table(COLUMNS, [letter_row(letter, now) for letter in letters])
