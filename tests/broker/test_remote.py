"""Workers outside the cluster: they know an address, and everything else from what the operator tells them."""

import json
import re
import signal
from collections import Counter

from millpond import TaskHandle
from millpond_api import subjects
from millpond_api.remote import PoolSettings

from tests.support.eventually import eventually
from tests.support.gate import Gate
from tests.support.joining import join, make_told, tell
from tests.support.workers import START, Mill, WorkerProcess


async def says(worker: WorkerProcess, text: str) -> None:
    """Its log holds the text."""
    await eventually(lambda: text in worker.text(), START, f"{worker.name} saying {text!r}")


async def join_busy(mill: Mill) -> tuple[WorkerProcess, Gate, TaskHandle]:
    """A worker that has joined, and a task of its that waits at the gate."""
    await tell(mill, make_told(mill))
    worker, gate = join(mill, "w1"), mill.gate("g")
    task = await mill.client.submit(mill.queue.pool, "gate", [gate.path])
    await gate.entered()
    return worker, gate, task


async def test_a_worker_that_knows_only_an_address_serves_the_pool_and_says_where_it_is(mill: Mill) -> None:
    await tell(mill, make_told(mill, concurrency=3))
    worker = join(mill, "gpu-box-1")
    await mill.reaches(worker, "Idle", passed=True)
    handle = await mill.client.submit(mill.queue.pool, "echo", ["hello"])
    assert await handle.result(timeout=START) == "hello"
    beat = await mill.next_beat("gpu-box-1")
    assert beat.remote
    assert beat.slots == 3


async def test_a_pool_that_nobody_has_told_of_is_waited_for_with_a_sentence(mill: Mill) -> None:
    worker = join(mill, "early")
    await says(worker, "there is no pool mill in namespace")
    await tell(mill, make_told(mill))
    await mill.reaches(worker, "Idle", passed=True)
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_a_worker_that_waits_for_its_pool_stops_when_asked(mill: Mill) -> None:
    worker = join(mill, "early")
    await says(worker, "there is no pool mill in namespace")
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_changed_settings_are_taken_over_after_what_runs_has_finished(mill: Mill) -> None:
    worker, gate, task = await join_busy(mill)
    first = (await mill.next_beat("w1")).incarnation
    await tell(mill, make_told(mill, concurrency=5))
    await mill.reaches(worker, "Draining", passed=True)
    await says(worker, "the pool's settings changed: MILLPOND_CONCURRENCY")
    gate.open()
    assert await task.result(timeout=START) == "w1 attempt 1"

    async def renewed() -> bool:
        beat = await mill.next_beat("w1")
        return beat.slots == 5 and beat.incarnation != first and beat.state == "Idle"

    await eventually(renewed, START, "a worker with five slots")
    assert await mill.story(task.id) == ["Running(1)@w1", "Succeeded(1)@w1"]
    assert worker.process.poll() is None


async def test_what_is_about_the_machine_stays_its_own_when_the_pool_changes_it(mill: Mill) -> None:
    await tell(mill, make_told(mill, concurrency=2))
    worker = join(mill, "w1", "--concurrency", "7")
    await mill.reaches(worker, "Idle", passed=True)
    assert (await mill.next_beat("w1")).slots == 7
    await tell(mill, make_told(mill, concurrency=3))
    # What is told is heard in order, so after the answer to a later change this one has been looked at.
    await tell(mill, make_told(mill, concurrency=3, retry={"maxAttempts": 9}))
    await says(worker, "the pool's settings changed: MILLPOND_RETRY")
    assert "MILLPOND_CONCURRENCY" not in worker.text()


async def test_a_drained_worker_finishes_what_it_runs_and_ends_with_zero(mill: Mill) -> None:
    worker, gate, task = await join_busy(mill)
    assert (await mill.ask(worker, "drain")).in_flight == 1
    left = await mill.client.submit(mill.queue.pool, "echo", [1])
    gate.open()
    assert await task.result(timeout=START) == "w1 attempt 1"
    assert await worker.ended() == 0
    assert [event.state for event in await mill.states("w1")][-2:] == ["Draining", "Stopped"]
    assert await mill.story(left.id) == []


async def test_a_deleted_pool_drains_its_worker_which_serves_the_pool_that_is_made_again(mill: Mill) -> None:
    told = make_told(mill)
    await tell(mill, told)
    worker = join(mill, "w1")
    await mill.reaches(worker, "Idle", passed=True)
    await tell(mill, PoolSettings(at=told.at, deleted=True))
    await says(worker, "waiting for the pool")
    assert "the pool was deleted" in worker.text()
    handle = await mill.client.submit(mill.queue.pool, "echo", ["again"])
    await tell(mill, told)
    assert await handle.result(timeout=START) == "again"


async def test_a_paused_pool_gives_its_worker_nothing(mill: Mill) -> None:
    told = make_told(mill)
    await tell(mill, told.model_copy(update={"paused": "its supervisor gave up"}))
    worker = join(mill, "w1")
    await says(worker, "the pool is paused: its supervisor gave up")
    handle = await mill.client.submit(mill.queue.pool, "echo", ["later"])
    await tell(mill, told)
    assert await handle.result(timeout=START) == "later"


async def test_sigkill_of_a_remote_worker_moves_its_task_to_another(mill: Mill) -> None:
    first, gate, task = await join_busy(mill)
    first.kill()
    gate.open()
    await mill.start("w2")
    assert await task.result(timeout=START) == "w2 attempt 1"


async def test_a_second_worker_of_the_same_name_is_refused_and_the_first_goes_on(mill: Mill) -> None:
    await tell(mill, make_told(mill))
    first = join(mill, "w1")
    await mill.reaches(first, "Idle", passed=True)
    second = join(mill, "w1")
    assert await second.ended() == 2
    # "Has a worker w1 already", or may have one: where the first one took longer to answer than the second one waits.
    assert re.search("ha(s|ve) a worker w1.* give --name another name", second.text())
    handle = await mill.client.submit(mill.queue.pool, "echo", [1])
    assert await handle.result(timeout=START) == 1
    assert first.process.poll() is None


async def test_of_two_workers_of_one_name_that_both_got_in_the_younger_leaves_and_no_task_runs_twice(
    mill: Mill,
) -> None:
    """As when the first was cut off from NATS while the second looked whether the name is free."""
    await tell(mill, make_told(mill))
    younger = join(mill, "w1")
    await mill.reaches(younger, "Idle", passed=True)
    # An older worker's heartbeat under its name.
    old = {"state": "Idle", "at": "2020-01-01T00:00:00Z", "started": "2020-01-01T00:00:00Z", "slots": 1}
    subject = subjects.beat(mill.queue.namespace, mill.queue.pool, "w1")
    await mill.client.transport.send(subject, json.dumps({**old, "incarnation": "other"}).encode())
    assert await younger.ended() == 2
    assert "an older worker of this name" in younger.text()
    handles = [await mill.client.submit(mill.queue.pool, "echo", [number]) for number in range(5)]
    await mill.start("w2")
    assert [await handle.result(timeout=START) for handle in handles] == list(range(5))
    for handle in handles:
        assert Counter(await mill.story(handle.id)) == Counter(["Running(1)@w2", "Succeeded(1)@w2"])


async def test_a_name_that_no_object_can_have_is_refused_with_a_sentence(mill: Mill) -> None:
    worker = join(mill, "GPU_Box")
    assert await worker.ended() == 2
    assert "must be lower-case letters" in worker.text()
