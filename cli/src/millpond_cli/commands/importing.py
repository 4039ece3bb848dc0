"""`millpond import keda`: a ScaledObject as a WorkerPool. Owns the options, the reading of the file and the printing.

The manifest goes to stdout and what has no equivalent to stderr, so that `… > pool.yaml` keeps the one and shows the
other. It asks no cluster and changes nothing.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from millpond_api.v1alpha1 import WorkerPool
from millpond_scaling.keda import Choice, Conversion, ImportRefused, convert
from pydantic import ValidationError

from millpond_cli.errors import CliError
from millpond_cli.output import say

app = typer.Typer(no_args_is_help=True, help="Take over what another scaler was told.")


@app.callback()
def group() -> None:
    """Take over what another scaler was told."""


@app.command("keda")
def keda(
    file: Annotated[
        Path, typer.Argument(help="YAML with a ScaledObject and, best, the Deployment that it scales; - is stdin.")
    ],
    app_name: Annotated[str, typer.Option("--app", help="Where the App object is, as in census:app.")] = "",
    image: Annotated[str, typer.Option(help="The worker image; the Deployment's own when it is in the file.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Slots in each worker; lagThreshold is divided by it.")] = 1,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Write out what KEDA and the HPA assume where nothing stands.")
    ] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="A pool that decides and records, but does not act.")
    ] = False,
) -> None:
    """Print a WorkerPool for a KEDA ScaledObject; what has no equivalent is named on stderr."""
    documents = read_documents(file)
    scaled = [doc for doc in documents if doc.get("kind") in ("ScaledObject", "ScaledJob")]
    if not scaled:
        raise CliError(f"{file} holds no ScaledObject")
    pools = []
    for one in scaled:
        made = _convert(one, documents, Choice(app_name, image, concurrency, defaults))
        if shadow:
            made.manifest["spec"]["scaling"]["mode"] = "Shadow"
        pools.append(made.manifest)
        for note in made.notes:
            say(f"{one['metadata'].get('name', 'ScaledObject')}: {note}")
    sys.stdout.write(yaml.safe_dump_all(pools, sort_keys=False, default_flow_style=False, width=120))


def _convert(scaled: dict[str, Any], documents: list[dict[str, Any]], choice: Choice) -> Conversion:
    try:
        made = convert(scaled, deployment_of(scaled, documents), choice)
        WorkerPool.model_validate(made.manifest)
    except ImportRefused as error:
        raise CliError(str(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CliError(f"a WorkerPool cannot have this: {place}: {first['msg']}") from None
    return made


def read_documents(file: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file, a List taken apart; CliError when it is not YAML of objects."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        documents = [doc for doc in yaml.safe_load_all(text) if doc]
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CliError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    found: list[Any] = []
    for doc in documents:
        found += doc["items"] if isinstance(doc, dict) and doc.get("kind") == "List" else [doc]
    if not all(isinstance(doc, dict) for doc in found):
        raise CliError(f"{file} holds something that is no Kubernetes object")
    return found


def deployment_of(scaled: dict[str, Any], documents: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The Deployment that the ScaledObject names, if it is in the same file."""
    name = ((scaled.get("spec") or {}).get("scaleTargetRef") or {}).get("name")
    found = (doc for doc in documents if doc.get("kind") == "Deployment" and doc["metadata"].get("name") == name)
    return next(found, None)
