"""What a worker, the server or the network may do to a task, and that the task survives it."""

import asyncio
import signal
from pathlib import Path

from millpond_api import subjects
from millpond_api.broker import QueueConfig

from tests.support.eventually import eventually
from tests.support.nats import NatsServer, ensure_pool
from tests.support.workers import LEASE, START, Mill, running_mill


async def test_sigkill_in_mid_task_redelivers_it_and_the_log_tells_the_story(mill: Mill) -> None:
    first = await mill.start("w1")
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    await gate.entered()
    first.kill()
    await mill.start("w2")
    await gate.entered(2)
    gate.open()
    assert await task.result(timeout=START) == "w2 attempt 1"
    assert await mill.story(task.id) == ["Running(1)@w1", "Running(1)@w2", "Succeeded(1)@w2"]
    await mill.is_empty()


async def test_a_zombie_past_its_lease_is_fenced_and_one_outcome_stands(mill: Mill) -> None:
    zombie = await mill.start("zombie")
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    await gate.entered()
    zombie.signal(signal.SIGSTOP)
    await mill.start("heir")
    await gate.entered(2)
    gate.open()
    assert await task.result(timeout=START) == "heir attempt 1"
    zombie.signal(signal.SIGCONT)
    await eventually(lambda: "fenced" in zombie.text(), START, "the zombie's line that it was fenced")
    assert await mill.story(task.id) == ["Running(1)@zombie", "Running(1)@heir", "Succeeded(1)@heir"]
    await mill.is_empty()
    # It is a good worker again.
    again = await mill.client.submit(mill.queue.pool, "echo", [1])
    assert await again.result(timeout=START) == 1


async def test_a_zombie_cannot_take_the_message_of_the_heir_that_still_runs(
    nats_server: NatsServer, namespace: str, tmp_path: Path
) -> None:
    # The heir is stopped while the zombie wakes, reads and writes: that must take less than a lease, or it runs again.
    async with running_mill(nats_server, QueueConfig(namespace, "mill", lease=2 * LEASE), tmp_path) as mill:
        await wake_a_zombie_beside_its_heir(mill)


async def wake_a_zombie_beside_its_heir(mill: Mill) -> None:
    zombie = await mill.start("zombie")
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    await gate.entered()
    zombie.signal(signal.SIGSTOP)
    heir = await mill.start("heir")
    await gate.entered(2)
    # The heir is stopped too, so that only the zombie sees the gate open: its commit must be refused.
    heir.signal(signal.SIGSTOP)
    gate.open()
    zombie.signal(signal.SIGCONT)
    await eventually(lambda: "fenced" in zombie.text(), START, "the zombie's line that it was fenced")
    assert await mill.depth() == 1
    heir.signal(signal.SIGCONT)
    await task.result(timeout=START)
    outcomes = [event for event in await mill.log_of(task.id) if event.state == "Succeeded"]
    assert len(outcomes) == 1
    await mill.is_empty()


async def test_nats_restart_while_tasks_run_loses_no_task_and_no_result(own_mill: Mill) -> None:
    await own_mill.start("w1", concurrency=4)
    await own_mill.start("w2", concurrency=4)
    gate = own_mill.gate("g")
    tasks = [await own_mill.client.submit(own_mill.queue.pool, "gate", [gate.path]) for _ in range(12)]
    await gate.entered(8)
    own_mill.server.stop()
    gate.open()
    # The handlers end while nobody listens: their outcomes must wait for the server.
    await asyncio.gather(*(asyncio.to_thread(own_mill.server.start), asyncio.sleep(0)))
    for task in tasks:
        assert "attempt 1" in await task.result(timeout=START)
        states = [event.state for event in await own_mill.log_of(task.id)]
        assert states.count("Succeeded") == 1
    await own_mill.is_empty()


async def test_sigkill_of_nats_while_tasks_flow_loses_no_task(own_mill: Mill) -> None:
    await own_mill.start("w1", concurrency=10)
    tasks = await own_mill.client.submit_many(own_mill.queue.pool, "double", [[n] for n in range(300)])
    await tasks[20].result(timeout=START)
    own_mill.server.kill9()
    own_mill.server.start()
    results = await asyncio.gather(*(task.result(timeout=2 * START) for task in tasks))
    assert results == [2 * n for n in range(300)]
    await own_mill.is_empty()


async def test_a_blocked_executor_loop_keeps_its_leases(mill: Mill) -> None:
    await mill.start("w1")
    await mill.start("w2")
    task = await mill.client.submit(mill.queue.pool, "block", [3 * LEASE])
    assert await task.result(timeout=START) == "done"
    assert len(await mill.log_of(task.id)) == 2
    await mill.is_empty()


async def test_a_task_that_kills_its_workers_ends_at_the_poison_limit(mill: Mill) -> None:
    for number in range(2):
        await mill.start(f"w{number}", poison_limit=2)
    task = await mill.client.submit(mill.queue.pool, "die")
    for worker in mill.workers[:2]:
        assert await worker.ended() == 9
    await mill.start("survivor", poison_limit=2)

    async def failed() -> bool:
        events = await mill.log_of(task.id)
        return bool(events) and events[-1].reason == "Poison"

    await eventually(failed, START, "the poisoned task's end")
    assert [entry.partition("@")[0] for entry in await mill.story(task.id)] == ["Running(1)", "Running(1)", "Failed(1)"]
    await mill.dead_letter(task.id)
    await mill.is_empty()


async def test_a_queue_deleted_and_made_again_is_served_again(mill: Mill) -> None:
    await mill.start("w1")
    await mill.client.transport.api(f"STREAM.DELETE.{subjects.pool_stream(mill.queue.namespace, mill.queue.pool)}")
    await ensure_pool(mill.server.url, mill.queue)
    task = await mill.client.submit(mill.queue.pool, "echo", ["again"])
    assert await task.result(timeout=START) == "again"


async def test_a_worker_that_starts_before_its_queue_waits_and_then_serves(mill: Mill) -> None:
    await mill.client.transport.api(f"STREAM.DELETE.{subjects.pool_stream(mill.queue.namespace, mill.queue.pool)}")
    worker = mill.spawn("early")
    await mill.reaches(worker, "Starting")
    await eventually(lambda: "waiting for the pool's queue" in worker.text(), START)
    await ensure_pool(mill.server.url, mill.queue)
    await mill.reaches(worker, "Idle")
    assert await (await mill.client.submit(mill.queue.pool, "echo", [1])).result(timeout=START) == 1


async def test_a_copy_of_a_task_beyond_the_servers_window_does_not_run_twice(mill: Mill) -> None:
    await mill.start("w1", concurrency=2)
    gate = mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    await gate.entered()
    subject = subjects.tasks(mill.queue.namespace, mill.queue.pool, "default")
    stored = await mill.client.transport.read_last(subjects.pool_stream(mill.queue.namespace, mill.queue.pool), subject)
    assert stored is not None
    copy = {name: text for name, text in stored.headers.items() if name == subjects.HEADER_ENVELOPE}
    await mill.client.transport.publish_stored(subject, stored.body, headers=copy)
    gate.open()
    await task.result(timeout=START)
    await mill.is_empty()
    assert len(gate.runs()) == 1
    assert await mill.story(task.id) == ["Running(1)@w1", "Succeeded(1)@w1"]
