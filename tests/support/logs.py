"""Whether statuses tell the truth: every Task object beside its log in the broker.

Owns reading the logs through the SDK, over `kubectl port-forward`, which works on any cluster. It changes nothing.
"""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from millpond import Client

from tests.support.kube import Kube
from tests.support.release import NAMESPACE, NATS_SERVICE
from tests.support.stage import Stage, phase

READERS = 50


@contextmanager
def forward_nats(kube: Kube) -> Iterator[str]:
    """A URL of the release's NATS for this machine."""
    words = ["kubectl", f"--kubeconfig={kube.kubeconfig}", f"--namespace={NAMESPACE}", "port-forward"]
    process = subprocess.Popen([*words, f"service/{NATS_SERVICE}", ":4222"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, f"port-forward said {line!r}"
        yield f"nats://127.0.0.1:{found[1]}"
    finally:
        process.kill()
        process.wait()


def read_logs(stage: Stage, pool: str, ids: list[str]) -> dict[str, str]:
    """What each task's log says, by task id: the state and the number of its last event."""

    async def read(url: str) -> dict[str, str]:
        gate = asyncio.Semaphore(READERS)
        async with Client.connect(url, namespace=stage.namespace) as client:

            async def one(task: str) -> tuple[str, str]:
                async with gate:
                    events = await client.handle(pool, task).events()
                return task, f"{events[-1].state}@{events[-1].sequence}" if events else "Queued@0"

            return dict(await asyncio.gather(*(one(task) for task in ids)))

    with forward_nats(stage.kube) as url:
        return asyncio.run(read(url))


def assert_statuses_tell_the_logs(stage: Stage, names: list[str], pool: str = "work") -> None:
    """No status is stale: phase and sequence of every Task are those of its log."""

    def agree() -> bool:
        seen = {name: status for name, status in stage.tasks().items() if name in set(names)}
        assert len(seen) == len(names)
        logs = read_logs(stage, pool, [status["taskId"] for status in seen.values()])
        stale = {
            name: (told, logs[status["taskId"]])
            for name, status in seen.items()
            if (told := f"{phase(status)}@{status.get('observedSequence')}") != logs[status["taskId"]]
        }
        assert not stale, f"{len(stale)} of {len(seen)} statuses are stale: {dict(list(stale.items())[:5])}"
        return True

    assert agree()
