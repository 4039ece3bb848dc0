"""The kind shim's arguments, the pinned Go modules, and locks that end with their holder."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from millpond_cluster.build.golang import FAMILIES, KUBERNETES, KUBERNETES_VERSION, PAUSE, Family
from millpond_cluster.kind_shim import make_parser
from millpond_cluster.locks import hold
from millpond_cluster.report import Reporter, format_seconds

HOLDER = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("get clusters", {"verb": "get", "noun": "clusters"}),
        ("create cluster --name=a --kubeconfig=k", {"name": "a", "kubeconfig": Path("k")}),
        ("create cluster --name=a --kubeconfig=k --image=i --config c", {"name": "a", "image": "i", "config": "c"}),
        ("load docker-image --name a localhost/x:dev", {"name": "a", "images": ["localhost/x:dev"]}),
        ("delete cluster --name=a --kubeconfig=k", {"verb": "delete", "name": "a"}),
    ],
    ids=["get", "create", "create-with-image-and-config", "load", "delete"],
)
def test_the_shim_takes_the_arguments_that_pytest_kind_gives(line: str, expected: dict[str, object]) -> None:
    parsed = vars(make_parser().parse_args(line.split()))
    assert {key: parsed[key] for key in expected} == expected


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES.values() if family is not PAUSE], ids=lambda f: str(f.name)
)
def test_a_family_pins_the_version_that_it_names(family: Family) -> None:
    pinned = re.findall(r"(\S+) (v\S+)", (family.source / "go.mod").read_text())
    packages = family.programs.values()
    assert all(
        any(package.startswith(module) for module, version in pinned if version == family.version)
        for package in packages
    )


def test_every_staging_module_is_pinned_to_the_kubernetes_release() -> None:
    replaced = re.findall(r"k8s\.io/(\S+) => k8s\.io/(\S+) (\S+)", (KUBERNETES.source / "go.mod").read_text())
    assert len(replaced) > 25
    assert {version for _, _, version in replaced} == {KUBERNETES_VERSION.replace("v1.", "v0.")}
    assert all(name == target for name, target, _ in replaced)


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    argv = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        acquired = threading.Event()

        def take() -> None:
            with hold(lock, Reporter(quiet=True), "a test"):
                acquired.set()

        waiter = threading.Thread(target=take)
        waiter.start()
        assert not acquired.wait(0.2)
        holder.send_signal(signal.SIGKILL)
        assert acquired.wait(60)
        waiter.join()


def test_the_lock_is_free_again_after_the_body(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with hold(lock, Reporter(quiet=True), "a test"), lock.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (12.3, "12 s"), (185.0, "3 min 05 s")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
