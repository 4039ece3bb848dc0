"""Which cluster and which namespace a command speaks to: the same three options on every command.

Owns the options `-n/--namespace`, `--context` and `--kubeconfig` and the decorator that puts them behind a command's
own. It must not open a connection (`cluster` does), so that `--help` answers without a cluster.
"""

import functools
import inspect
from collections.abc import Callable
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


_SHARED = {"namespace": NamespaceOption, "context": ContextOption, "kubeconfig": KubeconfigOption}


def with_target(command: Callable[..., None]) -> Callable[..., None]:
    """`command(target, …)` as a typer command whose `target` is filled from the three shared options."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "target"]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _SHARED.items()
    ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        command(Target(*(values.pop(name) for name in _SHARED)), **values)

    # typer reads signature and annotations; without this it would follow __wrapped__ to the `target` parameter.
    del run.__dict__["__wrapped__"]
    run.__dict__["__signature__"] = inspect.Signature([*own, *shared])
    run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
    return run
