"""Helm without a helm binary: `python scripts/helm.py lint|template|verify|install|upgrade|uninstall|status`.

Owns how this repository's chart is checked, rendered and installed by `make`, the demo and the tests; it speaks
Helm's own SDK, so a release made here is an ordinary one for the `helm` command. It must not know what is in the chart.
Survives a helm that was killed halfway: the revision it left as "pending" would block every later upgrade, so
`upgrade --install` forgets it first (the objects stay and are adopted).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import helm_python as helm
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "millpond"
CRDS = ROOT / "crds"

T = TypeVar("T")
Values = dict[str, Any]
Manifest = dict[str, Any]

VARIANTS: dict[str, Values] = {
    "default": {},
    "one-namespace": {"watchNamespace": "team-a"},
    "external-nats": {"nats": {"enabled": False, "url": "nats://nats.example:4222"}, "streams": {"replicas": 3}},
    "empty-dir": {"nats": {"storage": {"type": "emptyDir", "size": "512Mi"}}},
    "bare": {
        "replicaCount": 1,
        "aggregateRoles": False,
        "metrics": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "nats": {"podDisruptionBudget": {"enabled": False}},
        "uninstall": {"hook": False},
    },
    "everything": {
        "watchNamespace": "team-a",
        "env": {"MILLPOND_TICK_SECONDS": "0.5"},
        "imagePullSecrets": [{"name": "pull"}],
        "image": {"repository": "localhost/millpond-operator", "tag": "dev", "pullPolicy": "Never"},
        "metrics": {"enabled": True, "serviceMonitor": {"enabled": True, "labels": {"team": "a"}}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podLabels": {"team": "a"},
        "podAnnotations": {"note": "a"},
        "networkPolicy": {"enabled": True, "extraNatsClients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        "serviceAccount": {"create": False, "name": "given"},
        "nats": {
            "command": ["/nats-server"],
            "workerUrl": "nats://outside.example:4222",
            "storage": {"type": "pvc", "size": "2Ti", "storageClass": "fast"},
            "priorityClassName": "high",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "podAnnotations": {"note": "a"},
        },
    },
}
"""Values that between them take every branch of every template."""


@dataclass(frozen=True)
class Target:
    """A release and the cluster that it is in."""

    release: str
    namespace: str
    kubeconfig: Path | None = None

    def connect(self) -> helm.Config:
        return helm.Config(kubeconfig_path=self.kubeconfig, namespace=self.namespace)

    def kubectl(self, *words: str) -> None:
        """Run kubectl on the same cluster; its error reaches the terminal, its chatter does not."""
        place = ["--kubeconfig", str(self.kubeconfig)] if self.kubeconfig else []
        subprocess.run(["kubectl", *place, "-n", self.namespace, *words], check=True, stdout=subprocess.DEVNULL)


@dataclass(frozen=True)
class Rollout:
    """How an install, upgrade or uninstall is carried out."""

    wait: bool = True
    timeout: int = 300

    @property
    def strategy(self) -> str:
        """Hooks are waited for in any case: an uninstall that does not wait would cut the drain short."""
        return "watcher" if self.wait else "hookOnly"


def merge(base: Values, over: Values) -> Values:
    """`over` on top of `base`, as Helm does it: maps merge, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def read_values(files: Sequence[Path], settings: Sequence[str]) -> Values:
    """The values of `--values FILE` in order, then of `--set a.b=c` in order."""
    values: Values = {}
    for file in files:
        values = merge(values, yaml.safe_load(file.read_text()) or {})
    for setting in settings:
        values = merge(values, helm.parse_set_string(setting))
    return values


def render(values: Values, release: str = "mill", namespace: str = "pond") -> list[Manifest]:
    """Every object of the chart with these values, hooks among them; HelmError with a sentence for bad values."""
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name=release, namespace=namespace)
    return [item for path, text in files.items() if path.endswith(".yaml") for item in yaml.safe_load_all(text) if item]


def lint(values: Values) -> list[str]:
    """What helm's linter holds against the chart with these values (warnings count)."""
    report = helm.lint(CHART, values, strict=True)
    return [f"{found['path']}: {found['error']}" for found in report["messages"] if found["severity"] >= 2]


def find_crd_drift() -> list[str]:
    """Kinds that the chart ships differently from crds/ (both are generated, so one was edited or forgotten)."""
    ours = {file.name: file.read_text() for file in CRDS.glob("*.yaml")}
    shipped = {file.name: file.read_text() for file in (CHART / "crds").glob("*.yaml")}
    return sorted(name for name in ours.keys() | shipped.keys() if ours.get(name) != shipped.get(name))


def verify() -> list[str]:
    """Everything wrong with the chart that shows without a cluster."""
    problems = [f"crds/{name} differs from the chart's copy: run `make generate`" for name in find_crd_drift()]
    for name, values in VARIANTS.items():
        try:
            problems += [f"{name}: {finding}" for finding in lint(values)]
            objects = render(values)
        except helm.HelmError as error:
            problems.append(f"{name}: {error}")
            continue
        keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
        problems += [
            f"{name}: {key} is rendered twice" for key in sorted({k for k in keys if keys.count(k) > 1}, key=str)
        ]
    return problems


@contextmanager
def chart_without_kinds() -> Iterator[Path]:
    """A copy of the chart to install from. Helm makes kinds but never upgrades them, and it refuses to install over
    kinds that anybody else applied (a field-manager conflict, even when they are the same); so kubectl applies them."""
    with tempfile.TemporaryDirectory(prefix="millpond-chart-") as folder:
        yield shutil.copytree(CHART, Path(folder) / CHART.name, ignore=shutil.ignore_patterns("crds"))


def apply_release(target: Target, values: Values, rollout: Rollout) -> dict[str, Any]:
    """Install or upgrade the kinds and the release, whichever it takes; `wait` is until everything is ready."""
    target.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    token = helm.HelmContext()
    with target.connect() as config, chart_without_kinds() as chart:
        history = _read_history(config, target.release)
        known = len(history) > _forget_interrupted(target, history)
        shared: dict[str, Any] = {
            "context": token,
            "namespace": target.namespace,
            "timeout": rollout.timeout,
            "wait": rollout.strategy,
        }

        def act() -> dict[str, Any]:
            if known:
                return config.upgrade(chart, target.release, values, **shared)
            return config.install(chart, target.release, values, create_namespace=True, **shared)

        return _interruptible(act, token.cancel)


def remove_release(target: Target, rollout: Rollout) -> bool:
    """Uninstall, and with `wait` see the last pod gone; False when there was no such release."""
    with target.connect() as config:
        if not _read_history(config, target.release):
            return False
        _interruptible(
            lambda: config.uninstall(target.release, timeout=rollout.timeout, wait=rollout.strategy), lambda: None
        )
    if rollout.wait:  # Helm waits for the objects it deletes, not for the pods that these leave terminating
        selector = f"app.kubernetes.io/instance={target.release},app.kubernetes.io/name=millpond"
        target.kubectl("wait", "--for=delete", "pod", "-l", selector, f"--timeout={rollout.timeout}s")
    return True


def _read_history(config: helm.Config, release: str) -> list[dict[str, Any]]:
    try:
        return config.history(release)
    except helm.HelmNotFoundError:
        return []


def _forget_interrupted(target: Target, history: Sequence[dict[str, Any]]) -> int:
    """Drop the last revision's record if its helm died at work; how many were dropped (0 or 1)."""
    if not history or not str(history[-1]["status"]).startswith("pending-"):
        return 0
    secret = f"sh.helm.release.v1.{target.release}.v{history[-1]['revision']}"
    print(
        f"revision {history[-1]['revision']} was interrupted ({history[-1]['status']}): forgetting it", file=sys.stderr
    )
    target.kubectl("delete", "secret", secret)
    return 1


def _interruptible(act: Callable[[], T], cancel: Callable[[], None]) -> T:
    """`act` on a thread, since native code would keep Ctrl-C waiting for its whole timeout."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(act())
        except BaseException as error:  # whatever it is, it is raised again below, in the caller's thread
            errors.append(error)

    worker = threading.Thread(target=run, name="helm", daemon=True)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(0.2)
    except KeyboardInterrupt:
        cancel()
        raise
    if errors:
        raise errors[0]
    return results[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check, render and install charts/millpond without a helm binary.")
    commands = parser.add_subparsers(dest="command", required=True)
    values = argparse.ArgumentParser(add_help=False)
    values.add_argument("-f", "--values", type=Path, action="append", default=[], metavar="FILE")
    values.add_argument("--set", action="append", default=[], metavar="a.b=c")
    release = argparse.ArgumentParser(add_help=False)
    release.add_argument("release", nargs="?", default="millpond")
    release.add_argument("-n", "--namespace", default="millpond-system")
    cluster = argparse.ArgumentParser(add_help=False)
    cluster.add_argument("--kubeconfig", type=Path, help="default: KUBECONFIG, then the usual file")
    cluster.add_argument("--no-wait", action="store_true", help="don't wait until everything is ready (or gone)")
    cluster.add_argument("--timeout", type=int, default=300, help="seconds")
    commands.add_parser("verify", help="lint and render every variant, compare the kinds")
    commands.add_parser("lint", parents=[values])
    commands.add_parser("template", parents=[release, values])
    for name in ("install", "upgrade"):
        commands.add_parser(name, parents=[release, values, cluster], help="install the release, or upgrade it")
    commands.add_parser("uninstall", parents=[release, cluster])
    commands.add_parser("status", parents=[release, cluster])
    return parser


def _fail_on(problems: Sequence[str], what: str) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{what}: {len(problems)} problems" if problems else f"{what}: ok")
    return 1 if problems else 0


def _run(options: argparse.Namespace) -> int:
    if options.command == "verify":
        return _fail_on(verify(), f"chart, {len(VARIANTS)} variants")
    if options.command == "lint":
        return _fail_on(lint(read_values(options.values, options.set)), "chart")
    if options.command == "template":
        yaml.safe_dump_all(
            render(read_values(options.values, options.set), options.release, options.namespace),
            sys.stdout,
            sort_keys=False,
        )
        return 0
    target = Target(options.release, options.namespace, options.kubeconfig)
    rollout = Rollout(wait=not options.no_wait, timeout=options.timeout)
    if options.command == "status":
        with target.connect() as config:
            print(json.dumps(_read_history(config, target.release), indent=2))
    elif options.command == "uninstall":
        print(f"{target.release}: {'uninstalled' if remove_release(target, rollout) else 'not installed'}")
    else:
        done = apply_release(target, read_values(options.values, options.set), rollout)
        print(f"{target.release} revision {done['revision']}: {done['status']}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when it worked, 1 with a sentence when not."""
    try:
        return _run(_parser().parse_args(arguments))
    except (helm.HelmError, OSError, subprocess.CalledProcessError) as error:
        print(f"helm: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
