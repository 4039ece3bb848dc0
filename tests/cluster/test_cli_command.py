"""The `millpond` command on a real API server: outcomes become exit codes, and a server that restarts loses nothing."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from millpond_cluster.api import Cluster

from tests.support.eventually import eventually_sync
from tests.support.kube import Kube
from tests.support.works import LONG, Works, pool_manifest

BATCH = 600
"""Enough that the API server dies in the middle of their creation: two to ten seconds of work for it."""


def command(kube: Kube, *words: str) -> list[str]:
    target = ("--kubeconfig", str(kube.kubeconfig), "--namespace", kube.namespace)
    return [sys.executable, "-m", "millpond_cli.main", *words, *target]


def millpond(kube: Kube, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(kube, *words), input=stdin, capture_output=True, text=True, timeout=300, check=False)


class Watch:
    """`millpond watch` in a pipe, its lines as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def says(self, text: str) -> None:
        eventually_sync(lambda: [line for line in self.lines if text in line], LONG, f"{text!r} in {self.lines}")


@contextmanager
def watching(kube: Kube, *words: str) -> Iterator[Watch]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command(kube, "watch", *words), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield Watch(process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def served(works: Works, pool: str) -> str:
    """A pool with a worker."""
    works.make_pool(pool, concurrency=4)
    works.start_worker(pool, concurrency=4)
    works.pool_is_ready(pool)
    return pool


def test_result_goes_to_stdout_and_success_is_exit_code_0(works: Works, served: str) -> None:
    done = millpond(works.kube, "submit", served, "echo", '{"a": [1, null]}', "--wait", "--timeout", "2m")
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"a": [1, None]}, "")


def test_failed_task_is_exit_code_1_and_its_error_without_a_traceback_of_ours(works: Works, served: str) -> None:
    done = millpond(works.kube, "submit", served, "refuse", "--name", f"{served}-no", "--wait", "--timeout", "2m")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ended as Failed after 1 attempt with NonRetryable: this can never work" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_watch_until_idle_ends_only_when_every_task_of_the_batch_has_ended(works: Works, served: str) -> None:
    lines = "\n".join(f'["text {number}"]' for number in range(40))
    assert millpond(works.kube, "submit", served, "echo", "--each", "-", "--name", served, stdin=lines).returncode == 0
    done = millpond(works.kube, "watch", served, "--until-idle")
    phases = [task["status"]["phase"] for task in works.tasks_of(served)]
    assert (done.returncode, phases) == (0, ["Succeeded"] * 40)
    shown = millpond(works.kube, "get", "tasks", "--pool", served, "--phase", "succeeded", "-o", "json")
    assert len(json.loads(shown.stdout)["items"]) == 40


def test_cancel_waits_for_the_end_and_tells_a_task_that_had_ended_before(works: Works, pool: str) -> None:
    works.make_pool(pool)
    waiting, ended = f"{pool}-waits", f"{pool}-ended"
    works.make_task(waiting, pool)
    works.make_task(ended, pool, notBefore="2100-01-01T00:00:00Z")
    assert millpond(works.kube, "cancel", ended).returncode == 0
    again = millpond(works.kube, "cancel", waiting, ended, "--timeout", "2m")
    assert again.stdout.splitlines() == [f"task/{waiting} cancelled", f"task/{ended} cancelled"]
    assert works.status(waiting)["phase"] == "Cancelled"


def test_unpin_gives_a_scaled_pool_back_to_its_queue(kube: Kube) -> None:
    kube.apply(pool_manifest("mill"))
    kube.kubectl("scale", "workerpool/mill", "--replicas=3")
    assert "held at 3" in millpond(kube, "unpin", "mill").stdout
    assert "replicas" not in kube.get("workerpools", "mill")["spec"]


def test_refusals_are_the_servers_sentence_and_exit_code_1(kube: Kube) -> None:
    refused = {
        "must be a duration": ("submit", "mill", "echo", "--ttl", "soon"),
        "may hold only letters": ("submit", "mill", "two words"),
        "task nobody does not exist": ("cancel", "nobody"),
        "pool nobody does not exist": ("watch", "nobody"),
        "no pool, task or worker named nobody": ("logs", "nobody"),
    }
    for sentence, words in refused.items():
        done = millpond(kube, *words)
        assert (done.returncode, sentence in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_api_server_killed_in_the_middle_of_a_batch_loses_no_task_and_makes_none_twice(
    kube: Kube, restartable: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "lines"
    file.write_text("".join(f"[{number}]\n" for number in range(BATCH)))
    words = ("submit", "mill", "echo", "--name", "part", "--each", str(file))
    process = subprocess.Popen(command(kube, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually_sync(lambda: len(kube.list("tasks")) > BATCH // 10, LONG, "the first tasks")
    restartable.restart("kube-apiserver")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    made = sorted(task["spec"]["args"][0] for task in kube.list("tasks"))
    assert made == list(range(BATCH)), out
    again = millpond(kube, *words)
    assert again.stdout == f"0 tasks created, {BATCH} were there already\n"


def test_watch_and_wait_outlive_a_restart_of_the_api_server(kube: Kube, restartable: Cluster) -> None:
    kube.apply(pool_manifest("mill"))
    answers: list[subprocess.CompletedProcess[str]] = []
    words = ("submit", "mill", "echo", "--name", "late", "--wait", "--timeout", "4m")
    waiter = threading.Thread(target=lambda: answers.append(millpond(kube, *words)))
    with watching(kube) as watch:
        watch.says("mill: lag 0")
        waiter.start()
        eventually_sync(lambda: kube.find("tasks", "late"), LONG, "the task")
        restartable.restart("kube-apiserver")
        write_status(kube, "workerpool/mill", {"lag": 7, "mode": "Auto"})
        watch.says("mill: lag 7")
        write_status(kube, "task/late", {"phase": "Succeeded", "result": "at last"})
        waiter.join(LONG)
        kube.delete("workerpools", "mill")
        watch.says("pool mill: deleted")
    assert [(done.returncode, json.loads(done.stdout)) for done in answers] == [(0, "at last")]


def write_status(kube: Kube, what: str, status: dict[str, Any]) -> None:
    """As the operator would; here is none."""
    kind, _, name = what.partition("/")
    # Not by kubectl: a server that has just been restarted does not answer yet, and this request waits for it.
    kube.patch(f"{kind}s", name, {"status": status}, "status")
