"""The command line: `millpond-cluster`.

Owns arguments, exit codes and what is printed to stdout (results only; progress goes to stderr). Everything else is
Cluster's (api.py); it must not know how a cluster is made.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from millpond_cluster.api import Cluster
from millpond_cluster.errors import ClusterError
from millpond_cluster.local.state import Profile
from millpond_cluster.paths import DEFAULT_NAME

app = typer.Typer(
    help="A real Kubernetes for development and tests: kind where a Docker engine is, host processes elsewhere.",
    no_args_is_help=True,
)

keda = typer.Typer(help="KEDA on the cluster, to compare with: the real one, built from its own module.")
app.add_typer(keda, name="keda", no_args_is_help=True)

Name = Annotated[str, typer.Option(help="The cluster's name.")]


@app.command()
def up(
    profile: Annotated[Profile, typer.Option(help="How much of a cluster.")] = Profile.NODE,
    name: Name = DEFAULT_NAME,
    fake_nodes: Annotated[int, typer.Option(help="With --profile kwok: how many nodes.")] = 10,
) -> None:
    """Make the cluster run; repeats nothing that is done already. Prints how to use it."""
    cluster = Cluster.up(name, profile, fake_nodes=fake_nodes)
    print(f"export KUBECONFIG={cluster.kubeconfig}")


@app.command()
def down(
    name: Name = DEFAULT_NAME,
    purge: Annotated[bool, typer.Option(help="Also remove the node's images.")] = False,
) -> None:
    """Stop exactly what `up` started, and remove what it left."""
    if not Cluster(name).down(purge=purge):
        print(f"there was no cluster {name}", file=sys.stderr)


@app.command()
def status(name: Name = DEFAULT_NAME) -> None:
    """Say what runs; ends with code 1 if something is dead."""
    described = Cluster(name).status()
    for key, value in described.items():
        print(f"{key:24} {value}")
    raise typer.Exit(1 if "dead" in described.values() or described.get("api") == "not ready" else 0)


@app.command()
def kubeconfig(name: Name = DEFAULT_NAME) -> None:
    """Print the path of the kubeconfig."""
    print(Cluster(name).kubeconfig)


@app.command()
def load(image: str, name: Name = DEFAULT_NAME) -> None:
    """Load a locally built image into the node; costs nothing when it is there already."""
    loaded = Cluster(name).load(image)
    print(f"{image}: {'loaded' if loaded else 'already there'}")


@app.command()
def build(
    tag: Annotated[str, typer.Option(help="The image's name and tag.")],
    file: Annotated[Path, typer.Option(help="The Dockerfile.", exists=True, dir_okay=False)] = Path("Dockerfile"),
    context: Annotated[
        Path, typer.Option(help="The folder that COPY takes from.", exists=True, file_okay=False)
    ] = Path(),
    build_arg: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, may be repeated.")] = None,
    name: Name = DEFAULT_NAME,
    load: Annotated[bool, typer.Option("--load", help="Load it into the node as well.")] = False,
) -> None:
    """Build an image, unless nothing that goes into it has changed."""
    pairs = [argument.partition("=") for argument in build_arg or []]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise ClusterError(f"--build-arg {wrong[0]} must be KEY=VALUE")
    cluster = Cluster(name)
    built = cluster.build(tag, file=file, context=context, args={key: value for key, _, value in pairs})
    print(f"{tag}: {'built' if built else 'unchanged'}")
    if load:
        print(f"{tag}: {'loaded' if cluster.load(tag) else 'already there'}")


@app.command()
def restart(component: str, name: Name = DEFAULT_NAME) -> None:
    """Kill a component (SIGKILL) and start it again with the same arguments."""
    Cluster(name).restart(component)


@keda.command("up")
def keda_up(name: Name = DEFAULT_NAME) -> None:
    """Build KEDA (ten minutes, cached afterwards) and start its operator and metrics adapter."""
    Cluster(name).start_keda()


@keda.command("down")
def keda_down(name: Name = DEFAULT_NAME) -> None:
    """Stop KEDA and remove its objects."""
    if not Cluster(name).stop_keda():
        print(f"there was no KEDA on the cluster {name}", file=sys.stderr)


def main() -> None:
    """The entry point: an error that a person can act on is one sentence and exit code 1."""
    try:
        app()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
