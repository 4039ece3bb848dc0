"""A worker as process 1 of a PID namespace, as in its container: no moment is too early to tell it to stop."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from millpond import Client
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.events import WorkerEvent

from tests.support.eventually import eventually, eventually_sync
from tests.support.nats import NatsServer, ensure_pool
from tests.support.workers import START

ROOT = Path(__file__).parents[2]
PLAIN = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
OWN_PROC = [*PLAIN, "--mount-proc"]
"""As in a container, where /proc tells of the namespace's own processes. Some containers forbid it."""


def can_unshare(command: list[str]) -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*command, "true"], check=False).returncode == 0


NAMESPACE = OWN_PROC if can_unshare(OWN_PROC) else PLAIN
pytestmark = pytest.mark.skipif(not can_unshare(NAMESPACE), reason="this machine makes no PID namespaces for us")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    found = NatsServer(tmp_path / "nats").start()
    await ensure_pool(found.url, QueueConfig("ns", "pool"))
    yield found
    found.remove()


@contextmanager
def container(server: NatsServer, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """What the image starts, in a PID namespace of its own: the process outside."""
    known = {"NATS_URL": server.url, "NAMESPACE": "ns", "POOL": "pool", "WORKER": "w1", "HTTP_PORT": "0"}
    known |= {"APP": "tests.support.worker_app:app", "PYTHON": sys.executable} | settings
    environment = {**os.environ, **{f"MILLPOND_{key}": value for key, value in known.items()}}
    command = [*NAMESPACE, "sh", str(ROOT / "worker_image" / "start.sh")]
    with log.open("wb") as out, subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out) as outside:
        try:
            yield outside
        finally:
            outside.kill()


def process_1(outside: "subprocess.Popen[bytes]") -> int:
    """The id of process 1 within, as it is outside. Not for one that may end before anybody looks."""
    return eventually_sync(lambda: child_of(outside.pid), START, "process 1")


def child_of(pid: int) -> int:
    """The id of a process's first child, 0 while there is none."""
    return int((Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or ["0"])[0])


def await_worker(first: int) -> None:
    """Until the worker's process is there; where the script can't tell whether it is Python yet, until it is."""
    worker = eventually_sync(lambda: child_of(first), START, "the worker's process", 0.0)
    if NAMESPACE == PLAIN:
        eventually_sync(lambda: "python" in os.readlink(f"/proc/{worker}/exe"), START, "Python")


def test_sigterm_before_the_worker_has_a_handler_ends_it_at_once(server: NatsServer, tmp_path: Path) -> None:
    """Several times, since the worst moment is short: the child is forked and does not execute Python yet."""
    for _ in range(10):
        with container(server, tmp_path / "log") as outside:
            first = process_1(outside)
            await_worker(first)
            os.kill(first, signal.SIGTERM)
            assert outside.wait(START) == 0


async def test_sigterm_later_drains_and_its_exit_code_is_the_containers(server: NatsServer, tmp_path: Path) -> None:
    async with Client.connect(server.url, namespace="ns") as client:

        async def states() -> list[str]:
            log = await client.transport.read_log(subjects.STREAM_EVENTS, subjects.worker_events("ns", "pool", "w1"))
            return [WorkerEvent.decode(one.body).state for one in log]

        async def is_idle() -> bool:
            return "Idle" in await states()

        with container(server, tmp_path / "log") as outside:
            await eventually(is_idle, START, "an idle worker")
            os.kill(process_1(outside), signal.SIGTERM)
            assert await asyncio.to_thread(outside.wait, START) == 0
        assert (await states())[-1] == "Stopped"


def test_an_exit_code_of_the_worker_is_the_containers(server: NatsServer, tmp_path: Path) -> None:
    with container(server, tmp_path / "log", APP="nowhere:app") as outside:
        assert outside.wait(START) == 2
