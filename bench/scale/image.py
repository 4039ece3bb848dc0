"""The operator as its image has it: the same packages, and the same settings of malloc.

The workspace's environment holds the tests' and the CLI's packages too, and kopf imports what it finds: `kubernetes`
and `pykube` with `requests`, `rich` for logs, 20 MB together that no operator in a cluster has. The hard problem is to
hide them from one process without another environment: a finder before all others refuses them.
"""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.support.kube import ROOT

PARTS = ("crds", "scaling", "worker_image", "operator")
FINDER = """\
import sys

HIDDEN = frozenset({hidden!r})


class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"{{name}} is not in the operator's image", name=name)


sys.meta_path.insert(0, Hider())
"""


def make_environment(folder: Path) -> dict[str, str]:
    """Variables for an operator's process; writes what they point to into the folder."""
    hidden = folder / "hidden"
    hidden.mkdir(parents=True)
    (hidden / "sitecustomize.py").write_text(FINDER.format(hidden=sorted(find_hidden())))
    return {"PYTHONPATH": str(hidden)} | read_malloc((ROOT / "Dockerfile").read_text())


def find_hidden() -> set[str]:
    """Top-level packages of this environment that the image does not install."""
    projects = [str(ROOT / part / "pyproject.toml") for part in PARTS]
    script = [sys.executable, str(ROOT / "scripts" / "requirements.py"), str(ROOT / "uv.lock"), *projects]
    pins = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    installed = {_normal(re.split(r"[=\[; ]", line)[0]) for line in pins.splitlines() if line}
    return {
        package
        for package, owners in packages_distributions().items()
        if not any(_normal(owner) in installed or owner.startswith("millpond") for owner in owners)
    }


def read_malloc(dockerfile: str) -> dict[str, str]:
    """The settings of glibc's malloc in the image's ENV."""
    return dict(re.findall(r"\b(MALLOC_\w+)=(\w+)", dockerfile))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
