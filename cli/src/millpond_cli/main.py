"""The `millpond` command: its commands and how an error ends it.

Owns the typer app and nothing of what the commands do. A `CliError` becomes one sentence on stderr and exit code 1;
anything else is a bug and keeps its traceback.
"""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from millpond_cli.commands import (
    cancel,
    dead,
    drain,
    explain,
    get,
    importing,
    logs,
    messages,
    replay,
    simulate,
    submit,
    tree,
    version,
    watch,
)
from millpond_cli.errors import CliError
from millpond_cli.output import say

INTERRUPTED = 130


class Cli(TyperGroup):
    """Ends a failed command with a sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CliError as error:
            say(f"millpond: {error}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # `millpond get tasks | head`: the reader has seen enough. Nothing more can be written, also not at exit.
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115
            raise typer.Exit(0) from None


app = typer.Typer(
    name="millpond",
    cls=Cli,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Worker pools and task queues in Kubernetes: submit tasks, watch pools scale, read what became of them.",
)

app.command("submit")(submit.submit)
app.command("follow")(submit.follow)
app.command("get")(get.get)
app.command("watch")(watch.watch)
app.command("tree")(tree.tree)
app.command("logs")(logs.logs)
app.command("explain")(explain.explain)
app.command("replay")(replay.replay)
app.command("simulate")(simulate.simulate)
app.command("cancel")(cancel.cancel)
app.command("signal")(messages.signal)
app.command("query")(messages.query)
app.command("workers")(messages.workers)
app.command("unpin")(cancel.unpin)
app.command("drain")(drain.drain)
app.add_typer(dead.app, name="dead")
app.add_typer(importing.app, name="import")
app.command("version")(version.version)

if __name__ == "__main__":
    app()
