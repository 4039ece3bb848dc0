"""Real worker processes for tests: started as a pod would start them, hurt by signals, asked by RPC.

Owns processes, their logs and what they tell on NATS (states, heartbeats). `stop_all` ends exactly what was started.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from millpond import Client
from millpond.access import read_access
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.events import Beat, RpcAnswer, TaskEvent, WorkerEvent
from nats.aio.client import Client as Connection

from tests.support.bed import LEASE as LEASE
from tests.support.eventually import eventually
from tests.support.gate import Gate
from tests.support.nats import NatsServer, ensure_pool

ROOT = Path(__file__).parents[2]
START = 180.0
"""Generous: an interpreter takes a second to start, and took two minutes where other work had both cores."""


@dataclass
class WorkerProcess:
    """One `python -m millpond.worker`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, timeout: float = START) -> int:
        """The exit code, once it has ended."""
        await eventually(lambda: self.process.poll() is not None, timeout, f"the end of {self.name}")
        return int(self.process.returncode)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=START)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Mill:
    """A pool with its client and the workers that a test starts."""

    server: NatsServer
    queue: QueueConfig
    client: Client
    directory: Path
    connection: Connection
    workers: list[WorkerProcess] = field(default_factory=list)

    def spawn(self, name: str, **settings: Any) -> WorkerProcess:
        """Start a worker; settings are MILLPOND_ variables in lower case; `directory` is where it starts."""
        known: dict[str, Any] = {"nats_url": self.server.url}
        known |= {"namespace": self.queue.namespace, "pool": self.queue.pool}
        known |= {"app": "tests.support.worker_app:app", "worker": name, "lease": self.queue.lease, "http_port": 0}
        known |= {"beat": 0.2, "classes": ",".join(self.queue.classes)}
        directory = settings.pop("directory", ROOT)
        environment = {f"MILLPOND_{key.upper()}": str(value) for key, value in (known | settings).items()}
        log = self.directory / f"{name}-{len(self.workers)}.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "millpond.worker"]
            process = subprocess.Popen(
                command, cwd=directory, env={**os.environ, **environment}, stdout=out, stderr=out
            )
        worker = WorkerProcess(name, process, log)
        self.workers.append(worker)
        return worker

    async def start(self, name: str, **settings: Any) -> WorkerProcess:
        """Start a worker and wait until it has said Idle (it may be Busy by then)."""
        worker = self.spawn(name, **settings)
        await self.reaches(worker, "Idle", passed=True)
        return worker

    async def states(self, name: str) -> list[WorkerEvent]:
        """The transitions of a worker that are stored."""
        subject = subjects.worker_events(self.queue.namespace, self.queue.pool, name)
        stored = await self.client.transport.read_log(subjects.STREAM_EVENTS, subject)
        return [WorkerEvent.decode(one.body) for one in stored]

    async def reaches(self, worker: WorkerProcess, state: str, *, passed: bool = False) -> None:
        """Wait until the worker's last state is `state`; with `passed`, until it was in it at all."""

        async def look() -> bool:
            events = await self.states(worker.name)
            ended = worker.process.poll() is not None and state != "Stopped"
            if ended:
                raise RuntimeError(f"{worker.name} ended with {worker.process.returncode}:\n{worker.text()}")
            return any(event.state == state for event in (events if passed else events[-1:]))

        await eventually(look, START, f"{worker.name} in state {state}")

    async def log_of(self, task: str) -> list[TaskEvent]:
        return await self.client.handle(self.queue.pool, task).events()

    async def story(self, task: str) -> list[str]:
        """The task's log as `State(attempt)@worker`."""
        return [f"{event.state}({event.attempt})@{event.worker}" for event in await self.log_of(task)]

    async def ask(self, worker: WorkerProcess, verb: str, **body: Any) -> RpcAnswer:
        subject = subjects.rpc(self.queue.namespace, self.queue.pool, worker.name, verb)
        answer = await self.client.transport.request(subject, json.dumps(body).encode(), timeout=START)
        return RpcAnswer.model_validate_json(answer.body)

    async def next_beat(self, name: str = "*") -> Beat:
        """The next heartbeat of a worker."""
        subject = f"mp.beat.{self.queue.namespace}.{self.queue.pool}.{name}"
        subscription = await self.connection.subscribe(subject, max_msgs=1)
        return Beat.decode((await subscription.next_msg(timeout=START)).data)

    async def dead_letter(self, name: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of a dead letter, once it is there."""
        subject = subjects.dead(self.queue.namespace, self.queue.pool, name)

        async def look() -> Any:
            return await self.client.transport.read_last(subjects.STREAM_DEAD, subject)

        stored = await eventually(look, START, f"a dead letter {name}")
        return dict(stored.headers), stored.body

    async def depth(self) -> int:
        """Messages in the queue, waiting and in flight."""
        name = subjects.pool_stream(self.queue.namespace, self.queue.pool)
        info: Any = await self.client.transport.api(f"STREAM.INFO.{name}")
        return int(info["state"]["messages"])

    async def is_empty(self, timeout: float = START) -> None:
        async def look() -> bool:
            return await self.depth() == 0

        await eventually(look, timeout, "an empty queue")

    def gate(self, name: str) -> Gate:
        return Gate.make(self.directory / name)

    def stop_all(self) -> None:
        for worker in self.workers:
            worker.kill()


async def connect(url: str) -> Connection:
    return await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, **read_access().options())


@asynccontextmanager
async def running_mill(server: NatsServer, queue: QueueConfig, directory: Path) -> AsyncIterator[Mill]:
    """A pool on the server, worker processes in it, and an end to all of them."""
    await ensure_pool(server.url, queue)
    async with Client.connect(server.url, namespace=queue.namespace) as client:
        connection = await connect(server.url)
        found = Mill(server, queue, client, directory, connection)
        try:
            yield found
        finally:
            found.stop_all()
            await connection.close()
