"""Leaving: drain, grace period, release, cancel; no running task is interrupted without being given back."""

import signal
from pathlib import Path

import pytest
from millpond import TaskCancelled
from millpond_api.broker import QueueConfig

from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.support.workers import START, Mill, running_mill


async def test_sigterm_lets_the_running_task_finish_and_ends_with_zero(mill: Mill) -> None:
    worker = await mill.start("w1")
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    waiting = await mill.client.submit(mill.queue.pool, "echo", [1])
    await gate.entered()
    worker.signal(signal.SIGTERM)
    await mill.reaches(worker, "Draining")
    gate.open()
    assert await task.result(timeout=START) == "w1 attempt 1"
    assert await worker.ended() == 0
    assert [event.state for event in await mill.states("w1")][-2:] == ["Draining", "Stopped"]
    assert await mill.story(waiting.id) == []
    assert await mill.depth() == 1


@pytest.mark.parametrize("handler", ["gate", "gate-sync"])
async def test_a_task_longer_than_the_grace_period_is_given_back_with_its_attempt(mill: Mill, handler: str) -> None:
    worker = await mill.start("w1", grace=0.2)
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, handler, [gate.path])
    await gate.entered()
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert await mill.story(task.id) == ["Running(1)@w1", "Queued(1)@w1"]
    await mill.start("w2", poison_limit=1)
    await gate.entered(2)
    gate.open()
    assert await task.result(timeout=START) == "w2 attempt 1"
    await mill.is_empty()


async def test_a_second_signal_releases_at_once(mill: Mill) -> None:
    worker = await mill.start("w1", grace=600)
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    await gate.entered()
    worker.signal(signal.SIGTERM)
    await mill.reaches(worker, "Draining")
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert (await mill.story(task.id))[-1] == "Queued(1)@w1"


async def test_sigterm_without_a_broker_still_ends_with_zero(own_mill: Mill) -> None:
    worker = await own_mill.start("w1", grace=0.2)
    own_mill.server.stop()
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_drain_if_idle_is_refused_by_a_busy_worker_and_changes_nothing(mill: Mill) -> None:
    worker = await mill.start("w1", concurrency=2)
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    await gate.entered()
    answer = await mill.ask(worker, "drain", if_idle=True)
    assert (answer.ok, answer.state, answer.in_flight) == (False, "Busy", 1)
    assert await (await mill.client.submit(mill.queue.pool, "echo", [1])).result(timeout=START) == 1
    gate.open()
    await task.result(timeout=START)


async def test_a_drained_worker_takes_nothing_more_stays_ready_and_says_stopped(mill: Mill) -> None:
    worker = await mill.start("w1")
    answer = await mill.ask(worker, "drain", if_idle=True)
    assert (answer.ok, answer.in_flight) == (True, 0)
    await mill.reaches(worker, "Stopped")
    task = await mill.client.submit(mill.queue.pool, "echo", [1])
    await mill.start("w2")
    assert await task.result(timeout=START) == 1
    assert await mill.story(task.id) == ["Running(1)@w2", "Succeeded(1)@w2"]
    assert worker.process.poll() is None
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_drain_of_a_busy_worker_lets_it_finish_and_then_says_stopped(mill: Mill) -> None:
    worker = await mill.start("w1")
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    await gate.entered()
    answer = await mill.ask(worker, "drain")
    assert (answer.ok, answer.state, answer.in_flight) == (True, "Draining", 1)
    gate.open()
    assert await task.result(timeout=START) == "w1 attempt 1"
    await mill.reaches(worker, "Stopped")
    await mill.is_empty()


@pytest.mark.parametrize("handler", ["gate", "attentive"])
async def test_cancel_stops_the_handler_and_the_cancellers_event_stands(mill: Mill, handler: str) -> None:
    await mill.start("w1")
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, handler, [gate.path])
    await gate.entered()
    await task.cancel()
    with pytest.raises(TaskCancelled):
        await task.result(timeout=START)
    await mill.is_empty()
    assert [event.state for event in await mill.log_of(task.id)] == ["Running", "Cancelled"]
    assert await (await mill.client.submit(mill.queue.pool, "echo", [1])).result(timeout=START) == 1
    if handler == "attentive":
        await eventually((gate.directory / "noticed").exists, START)


async def test_a_cancelled_running_task_leaves_the_queue_long_before_its_lease_ends(
    nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    lease = 10 * START
    async with running_mill(nats_server, QueueConfig(namespace, "mill", lease=lease), tmp_path) as mill:
        await mill.start("w1")
        gate = mill.gate("g")
        task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
        await gate.entered()
        await task.cancel()
        await mill.is_empty(timeout=START)


async def test_an_rpc_that_cannot_be_read_is_answered_with_the_reason(mill: Mill) -> None:
    worker = await mill.start("w1")
    answer = await mill.ask(worker, "dance")
    assert not answer.ok
    assert {"ping", "drain", "cancel"} <= set(answer.message.replace(",", "").split())
