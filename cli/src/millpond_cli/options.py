"""Options that several commands share: one parameter of the command, several options of the person.

Owns the decorator that puts shared options behind a command's own, and the three of every command: which cluster and
which namespace it speaks to (`-n/--namespace`, `--context`, `--kubeconfig`). It must not open a connection (`cluster`
does), so that `--help` answers without a cluster.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

NamespaceOption = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Namespace; the context's own when not given.")
]
ContextOption = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
KubeconfigOption = Annotated[
    str | None, typer.Option("--kubeconfig", help="Path of the kubeconfig; $KUBECONFIG or ~/.kube/config if not given.")
]
EverywhereOption = Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces.")]
NatsOption = Annotated[
    str,
    typer.Option(
        "--nats", metavar="URL", help="NATS of the pools; the chart's own, through the API server, if not given."
    ),
]


@dataclass(frozen=True)
class Target:
    """The cluster and namespace that the person named. None means: as in kubectl."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


Command = Callable[..., None]


def with_options(parameter: str, make: Callable[..., Any], options: Mapping[str, Any]) -> Callable[[Command], Command]:
    """A typer command whose `parameter` is `make(…)` of these options (name and type; an option not given is None)."""
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != parameter]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            made = make(**{name: values.pop(name) for name in options})
            command(**{parameter: made}, **values)

        # typer reads signature and annotations; without this it would follow __wrapped__ to the parameter itself.
        del run.__dict__["__wrapped__"]
        run.__dict__["__signature__"] = inspect.Signature([*own, *shared])
        run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        return run

    return decorate


with_target = with_options(
    "target", Target, {"namespace": NamespaceOption, "context": ContextOption, "kubeconfig": KubeconfigOption}
)
"""`command(target, …)`: its `target` is filled from the three options of every command."""
