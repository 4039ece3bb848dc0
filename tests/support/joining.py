"""Workers outside the cluster for tests: what an operator tells them, and `millpond-worker join` with an address alone.

Owns the processes' start (they end with their mill) and the message of the pool's settings, made by the operator's own
code from a spec. It gives a worker nothing that a person would not give.
"""

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from millpond.transport import Publish
from millpond_api import subjects
from millpond_api.remote import PoolSettings
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_operator.cluster_key import PoolKey
from millpond_operator.resources.variables import make_settings

from tests.support.workers import LEASE, ROOT, Mill, WorkerProcess

SPEC: dict[str, Any] = {"image": "none", "app": "tests.support.worker_app:app", "timeouts": {"lease": f"{LEASE:g}s"}}


def make_told(mill: Mill, **spec: Any) -> PoolSettings:
    """What an operator makes of the pool's spec."""
    key = PoolKey(mill.queue.namespace, mill.queue.pool)
    return make_settings(key, WorkerPoolSpec.model_validate(SPEC | spec), datetime.now(UTC))


async def tell(mill: Mill, told: PoolSettings) -> None:
    """Store it, as the operator does."""
    subject = subjects.settings(mill.queue.namespace, mill.queue.pool)
    await mill.client.transport.publish_stored(subject, told.encode(), options=Publish())


def join(mill: Mill, name: str, *words: str, url: str = "", **environment: str) -> WorkerProcess:
    """Start `millpond-worker join` with an address, the pool and a name; `environment` are whole variables."""
    log = mill.directory / f"{name}-{len(mill.workers)}.log"
    given = ["--url", url or mill.server.bare_url, "--namespace", mill.queue.namespace, "--pool", mill.queue.pool]
    command = [sys.executable, "-m", "millpond.worker", "join", *given, "--name", name, *words]
    with log.open("wb") as out:
        known = {"MILLPOND_BEAT": "0.2", **environment}
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **known}, stdout=out, stderr=out)
    worker = WorkerProcess(name, process, log)
    mill.workers.append(worker)
    return worker
