"""`millpond submit`: Task objects from the command line or from a file with one task a line.

Owns the options and what is printed. With `--wait` the exit code tells the outcome: 0 when every task succeeded.
"""

import sys
from collections import Counter as Counts
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from millpond_api.events import utc_now

from millpond_cli.cluster import Cluster, Object, connect, split_name
from millpond_cli.errors import CliError
from millpond_cli.following import showing
from millpond_cli.manifests import (
    Naming,
    Work,
    make_batch,
    make_task,
    parse_argument,
    parse_kwargs,
    parse_lines,
    parse_moment,
    parse_seconds,
)
from millpond_cli.options import Target, with_target
from millpond_cli.output import counting, print_json, say
from millpond_cli.rows import status_of
from millpond_cli.submitting import create_all, phase_of, wait_for


@with_target
def submit(
    target: Target,
    pool: Annotated[str, typer.Argument(help="The WorkerPool.")],
    handler: Annotated[str, typer.Argument(help="Name of the handler in the pool's app.")],
    args: Annotated[list[str] | None, typer.Argument(help="Arguments: JSON, else text.")] = None,
    kwarg: Annotated[list[str] | None, typer.Option("--kwarg", help="NAME=VALUE, value JSON or text.")] = None,
    name: Annotated[str, typer.Option(help="Name of the Task; with --each the names' prefix.")] = "",
    generate_name: Annotated[str, typer.Option(help="Prefix; the server appends five characters.")] = "",
    task_class: Annotated[str, typer.Option("--class", help="Priority class of the pool.")] = "",
    delay: Annotated[str, typer.Option(help="Start after this long, such as 30s.")] = "",
    deadline: Annotated[str, typer.Option(help="Expires after this long (10m) or at a time.")] = "",
    ttl: Annotated[str, typer.Option(help="Delete the object this long after its end, such as 1h.")] = "",
    each: Annotated[str, typer.Option(help="One task a line of this file (- is stdin): JSON array or text.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code 1 unless it succeeded.")] = False,
    timeout: Annotated[str, typer.Option(help="With --wait: give up waiting after this long.")] = "",
) -> None:
    """Create a Task, or one for each line of a file."""
    if name and generate_name:
        raise CliError("--name and --generate-name exclude each other: give one")
    if timeout and not wait:
        raise CliError("--timeout belongs to --wait")
    now = utc_now()
    work = Work(
        pool=pool,
        handler=handler,
        kwargs=parse_kwargs(kwarg or []),
        task_class=task_class,
        not_before=parse_moment(delay, "--delay", now) if delay else "",
        deadline=parse_moment(deadline, "--deadline", now) if deadline else "",
        ttl=ttl,
    )
    seconds = parse_seconds(timeout, "--timeout") if timeout else None
    manifests = _manifests(work, args or [], each, Naming(name, generate_name))
    cluster = connect(target)
    names = create(cluster, manifests, quiet=wait and not each)
    if wait:
        _report(names, wait_with_progress(cluster, names, seconds), single=not each)


def _manifests(work: Work, args: list[str], each: str, naming: Naming) -> list[Object]:
    arguments = [parse_argument(text) for text in args]
    if not each:
        return [make_task(work, arguments, naming)]
    if args:
        raise CliError("ARGS and --each exclude each other: write the arguments into the lines, as JSON arrays")
    try:
        text = (sys.stdin.buffer.read() if each == "-" else Path(each).read_bytes()).decode()
    except OSError as error:
        raise CliError(f"--each {each}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CliError(f"--each {each}: byte {error.start} is not UTF-8: convert the file first") from None
    batch = parse_lines(text.splitlines())
    if not batch:
        raise CliError(f"--each {each}: there is no line in it")
    return make_batch(work, batch, naming)


def create(cluster: Cluster, manifests: list[Object], quiet: bool = False) -> list[str]:
    """Creates the tasks with progress and says what was created; their names."""
    many = len(manifests) > 1
    with ExitStack() as stack:
        progress = stack.enter_context(counting("created", len(manifests))) if many else lambda _: None
        created = list(create_all(cluster, manifests, progress))
    if many:
        existed = sum(one.existed for one in created)
        print(f"{len(created) - existed} tasks created" + (f", {existed} were there already" if existed else ""))
    elif not quiet:
        print(f"task/{created[0].name} {'unchanged' if created[0].existed else 'created'}")
    return [one.name for one in created]


def wait_with_progress(cluster: Cluster, names: list[str], seconds: float | None) -> dict[str, Object]:
    """The ended tasks by name."""
    if len(names) == 1:
        with showing(cluster, names[0]):
            return wait_for(cluster, names, seconds)
    with counting("ended", len(names)) as progress:
        return wait_for(cluster, names, seconds, progress)


@with_target
def follow(
    target: Target,
    task: Annotated[str, typer.Argument(help="A Task object.")],
    timeout: Annotated[str, typer.Option(help="How long to wait for its end; as long as it takes, if unset.")] = "",
) -> None:
    """Show a task's progress until it ends, then its result. Exit code 1 unless it succeeded."""
    seconds = parse_seconds(timeout, "--timeout") if timeout else None
    _, name = split_name(task)
    cluster = connect(target)
    cluster.read("tasks", name)
    _report([name], wait_with_progress(cluster, [name], seconds), single=True)


def _report(names: list[str], ended: dict[str, Object], single: bool) -> None:
    """Prints result or counts; raises unless all succeeded."""
    missing = [name for name in names if name not in ended]
    failed = [task for task in ended.values() if phase_of(task) != "Succeeded"]
    if single and not missing:
        task = ended[names[0]]
        if failed:
            raise CliError(outcome(task))
        status = status_of(task)
        if status.get("storedResult"):
            say(f"task {names[0]}: {status.get('message')}")
        else:
            print_json(status.get("result"))
        return
    if not single:
        phases = Counts(phase_of(task) for task in ended.values())
        print(", ".join(f"{count} {phase}" for phase, count in sorted(phases.items())))
    for task in failed[:10]:
        say(outcome(task))
    if missing:
        raise CliError(f"{len(missing)} tasks were deleted before their end was seen, such as {missing[0]}")
    if failed:
        raise CliError(f"{len(failed)} of {len(names)} tasks did not succeed: see `millpond get tasks --phase Failed`")


def outcome(task: Object) -> str:
    """One sentence on how a task ended."""
    status = status_of(task)
    error = status.get("error") or {}
    why = ": ".join(filter(None, (error.get("type"), error.get("message")))) or status.get("message") or ""
    attempts = status.get("attempts", 0)
    times = f" after {attempts} attempt{'s' if attempts != 1 else ''}" if attempts else ""
    return f"task {task['metadata']['name']} ended as {phase_of(task)}{times}" + (f" with {why}" if why else "")
