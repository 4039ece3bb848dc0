"""Priority classes: an urgent task passes those that wait, an idle worker hears every class."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from millpond_api.broker import QueueConfig

from tests.broker.conftest import running_mill
from tests.support.nats import NatsServer
from tests.support.workers import LEASE, START, Mill

CLASSES = ("urgent", "default", "bulk")


@pytest.fixture
async def graded(nats_server: NatsServer, namespace: str, tmp_path: Path) -> AsyncIterator[Mill]:
    """A pool with three classes."""
    queue = QueueConfig(namespace, "mill", classes=CLASSES, lease=LEASE)
    async with running_mill(nats_server, queue, tmp_path) as found:
        yield found


async def test_strict_waiting_tasks_run_in_class_order_whatever_their_age(graded: Mill) -> None:
    gate = graded.gate("g")
    gate.open()
    order = [
        (await graded.client.submit("mill", "gate", [gate.path], priority=name)).id
        for name in ("bulk", "bulk", "default", "default", "urgent", "urgent")
    ]
    await graded.start("w1", priority="Strict")
    runs = [run.split()[1] for run in await gate.entered(6)]
    assert runs == [*order[4:], *order[2:4], *order[:2]]
    await graded.is_empty()


async def test_an_idle_worker_is_woken_by_every_class(graded: Mill) -> None:
    await graded.start("w1", concurrency=4)
    for name in (*CLASSES, *reversed(CLASSES)):
        task = await graded.client.submit("mill", "echo", [name], priority=name)
        assert await task.result(timeout=START) == name


async def test_more_tasks_of_each_class_than_slots_all_run_once(graded: Mill) -> None:
    await graded.start("w1", concurrency=3)
    tasks = [await graded.client.submit("mill", "double", [n], priority=CLASSES[n % 3]) for n in range(90)]
    assert [await task.result(timeout=START) for task in tasks] == [2 * n for n in range(90)]
    for task in tasks:
        assert [event.state for event in await graded.log_of(task.id)] == ["Running", "Succeeded"]
    await graded.is_empty()
