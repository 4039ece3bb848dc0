"""The servers of the contenders: nats-server, Redis, PostgreSQL; each round gets a new, empty one on a free port.

Owns starting them with the durability that `contenders.STORED` states, asking them how much is stored, and ending what
was started. It survives a machine that has not all of them: `NotHere` says which and how to get it.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
from millpond_api.broker import QueueConfig

from bench.queue.contenders import Ground
from tests.support.eventually import eventually_sync
from tests.support.nats import NatsServer, ensure_pool, free_port

START = 30.0


class NotHere(Exception):
    """The server's program is not on this machine; the text says what to install."""


class Server(ABC):
    """A running server. `ask` answers a contender's question with a number."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self.pid = url, pid

    @abstractmethod
    def ask(self, question: str) -> int:
        """The number that the question is about."""


class Nats(Server):
    """Questions are names of streams; the answer is how many messages each holds (0 when there is none yet)."""

    def ask(self, question: str) -> int:
        return asyncio.run(self._count(question))

    async def _count(self, stream: str) -> int:
        connection = await nats.connect(self.url)
        try:
            return int((await connection.jetstream().stream_info(stream)).state.messages)
        except nats.js.errors.NotFoundError:
            return 0
        finally:
            await connection.close()


class Redis(Server):
    """Questions are commands that answer with an integer."""

    def ask(self, question: str) -> int:
        port = int(self.url.rsplit(":", 1)[1].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
            peer.sendall(question.encode() + b"\r\n")
            return int(peer.makefile().readline().lstrip(":"))


class Postgres(Server):
    """Questions are SQL."""

    def ask(self, question: str) -> int:
        done = subprocess.run(["psql", self.url, "-Atc", question], capture_output=True, text=True, check=True)
        return int(done.stdout)


@contextlib.contextmanager
def running(ground: Ground, tasks: int) -> Iterator[Server]:
    """A new server of this ground."""
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as directory:
        match ground:
            case Ground.NATS:
                yield from _run_nats(tasks)
            case Ground.REDIS:
                yield from _run_redis(Path(directory))
            case _:
                yield from _run_postgres(Path(directory), synchronous=ground == Ground.POSTGRES)


def _run_nats(tasks: int) -> Iterator[Server]:
    server = NatsServer().start()
    try:
        asyncio.run(ensure_pool(server.url, QueueConfig("bench", "bench", max_depth=max(tasks, 1000) * 2)))
        yield Nats(server.url, server.pid)
    finally:
        server.remove()


def _run_redis(directory: Path) -> Iterator[Server]:
    program = shutil.which("redis-server")
    if not program:
        raise NotHere("there is no redis-server: apt-get install redis-server")
    port = free_port()
    words = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--save", ""]
    words += ["--appendonly", "yes", "--appendfsync", "everysec"]
    with _process(words, directory / "redis.log") as process:
        _await_port(port)
        yield Redis(f"redis://127.0.0.1:{port}/0", process.pid)


def _run_postgres(directory: Path, *, synchronous: bool) -> Iterator[Server]:
    """PostgreSQL refuses to run as root: then it is the user `postgres`, whom Debian's package makes."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found or not shutil.which("psql"):
        raise NotHere("there is no PostgreSQL server: apt-get install postgresql")
    programs, data, port = found[-1].parent, directory / "data", free_port()
    prefix: list[str] = []
    if os.getuid() == 0:
        prefix, user = ["runuser", "-u", "postgres", "--"], pwd.getpwnam("postgres")
        os.chown(directory, user.pw_uid, user.pw_gid)
    make = [*prefix, str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd="/")
    words = [*prefix, str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(directory)]
    words += ["-h", "127.0.0.1", "-c", f"synchronous_commit={'on' if synchronous else 'off'}"]
    with _process(words, directory / "postgres.log", end=signal.SIGINT) as process:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        ask = ["pg_isready", "-d", url]
        eventually_sync(lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0, START)
        yield Postgres(url, process.pid)


@contextlib.contextmanager
def _process(words: list[str], log: Path, end: signal.Signals = signal.SIGTERM) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs until the block ends; its group is asked to end, so that a process behind `runuser` hears it too."""
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, cwd="/", start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, end)
        try:
            process.wait(timeout=START)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await_port(port: int) -> None:
    def look() -> Any:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True

    eventually_sync(look, START)
