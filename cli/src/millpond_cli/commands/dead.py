"""`millpond dead`: the tasks that will not be tried again by themselves. Owns the options and what is printed.

`redrive` and `purge` want to be told which (a task, a filter or --all), because both are about other people's work;
`--dry-run` prints what they would take. Exit code 1 when a letter that was named could not be put back.
"""

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer
from millpond_api.events import utc_now

from millpond_cli.asking import Place
from millpond_cli.deadletters import COLUMNS, Letter, Which, letter_row, read_letter, read_letters
from millpond_cli.deadletters import purge as throw_away
from millpond_cli.deadletters import redrive as put_back
from millpond_cli.errors import CliError
from millpond_cli.manifests import parse_seconds
from millpond_cli.options import NatsOption, Target, with_options, with_target
from millpond_cli.output import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Dead letters: tasks that will not be tried again by themselves.")

PoolOption = Annotated[str | None, typer.Option("--pool", help="Only of this pool.")]
HandlerOption = Annotated[
    str | None, typer.Option("--handler", help="Only of this handler; * and ? stand for any text.")
]
ErrorOption = Annotated[
    str | None, typer.Option("--error", help="Only with this error, such as TimeoutError; * and ?.")
]
OlderOption = Annotated[str | None, typer.Option("--older", help="Only those that died longer ago, such as 2h.")]
NewerOption = Annotated[str | None, typer.Option("--newer", help="Only those that died since then, such as 2h.")]
TasksArgument = Annotated[list[str] | None, typer.Argument(metavar="TASK...", help="Task ids, or names of Tasks.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every one of the namespace.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Only print which ones it would be.")]


def _make_which(**given: Any) -> Which:
    for name in ("older", "newer"):
        given[name] = parse_seconds(given[name], f"--{name}") if given[name] else None
    given["tasks"] = tuple(given["tasks"] or ())
    return Which(**{name: value for name, value in given.items() if value is not None})


with_letters = with_options(
    "which",
    _make_which,
    {
        "tasks": TasksArgument,
        "pool": PoolOption,
        "handler": HandlerOption,
        "error": ErrorOption,
        "older": OlderOption,
        "newer": NewerOption,
    },
)
"""`command(…, which)`: which letters are meant, from the same argument and options in each command."""


@app.command("list")
@with_target
@with_letters
def list_letters(
    target: Target,
    which: Which,
    output: Annotated[str, typer.Option("-o", "--output", help="json: everything, as a list.")] = "",
    nats: NatsOption = "",
) -> None:
    """List dead letters, oldest first."""
    if output not in ("", "json"):
        raise CliError(f"-o {output}: there is json")
    letters = read_letters(Place(target, nats), which)
    if output:
        print_json([asdict(letter) for letter in letters])
    else:
        _print(letters)


@app.command("show")
@with_target
def show(
    target: Target,
    task: Annotated[str, typer.Argument(help="Task id, or name of a Task.")],
    pool: PoolOption = None,
    nats: NatsOption = "",
) -> None:
    """Show one dead letter: error, traceback, arguments, and how the workers ended that it took with it."""
    letter = read_letter(Place(target, nats), Which(pool=pool or "", tasks=(task,)))
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
@with_letters
def redrive(
    target: Target,
    which: Which,
    every: AllOption = False,
    dry_run: DryOption = False,
    nats: NatsOption = "",
) -> None:
    """Put dead letters back into their queues, with a full set of attempts and their history."""
    _check_chosen(which, every, "redrive")
    place = Place(target, nats)
    if dry_run:
        _print(read_letters(place, which))
        return
    done = put_back(place, which)
    _check_named(which, [letter for letter, _, _ in done])
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
@with_letters
def purge(
    target: Target,
    which: Which,
    every: AllOption = False,
    dry_run: DryOption = False,
    nats: NatsOption = "",
) -> None:
    """Throw dead letters away for good; what the tasks' logs say stays."""
    _check_chosen(which, every, "purge")
    place = Place(target, nats)
    if dry_run:
        _print(read_letters(place, which))
        return
    gone = throw_away(place, which)
    _check_named(which, gone)
    print(f"{len(gone)} purged")


def _check_chosen(which: Which, every: bool, verb: str) -> None:
    if every == which.narrows:
        raise CliError(f"say which to {verb}: TASK..., --pool, --handler, --error, --older, --newer, or --all alone")


def _check_named(which: Which, found: list[Letter]) -> None:
    there = {name for letter in found for name in (letter.task, letter.object)}
    missing = [name for name in which.tasks if name not in there]
    if missing:
        raise CliError(f"{', '.join(missing)}: no dead letter of that name; `millpond dead list` shows what there is")


def _print(letters: list[Letter]) -> None:
    if not letters:
        say("no dead letters")
        return
    now = utc_now()
    print_table(COLUMNS, [letter_row(letter, now) for letter in letters])
