"""Asking the worker that runs a task: one typed answer, or one typed error that says what to do."""

import asyncio

import pytest
from millpond import NotRunning, WorkerRefused, WorkerUnreachable
from millpond.asking import Question, ask_task, ask_worker
from millpond_api.events import RpcAnswer
from millpond_api.subjects import Address
from millpond_api.wire import Wire

from tests.support.bed import START, Bed, Gate

PING = Question("ping", Wire(), RpcAnswer, START)


async def test_a_running_task_is_asked_at_its_worker_and_one_that_does_not_run_says_its_state(bed: Bed) -> None:
    gate = Gate()

    @bed.app.task("gate")
    async def wait() -> None:
        await gate.pass_through()

    task = await bed.submit("gate")
    with pytest.raises(NotRunning, match="is Queued") as waiting:
        await ask_task(task, PING)
    assert waiting.value.state == "Queued"
    await bed.start_worker("w1")
    await bed.until(lambda: bool(gate.runs), "the handler at the gate")
    assert (await ask_task(task, PING)).in_flight == 1
    assert task.runs_at == "w1"
    with pytest.raises(WorkerRefused, match=r"unknown verb 'sing': there are .*ping"):
        await ask_task(task, Question("sing", Wire(), RpcAnswer, START))
    gate.open()
    await task.result(timeout=START)
    task.runs_at = ""
    with pytest.raises(NotRunning, match=r"is Succeeded.*result"):
        await ask_task(task, PING)


async def test_a_worker_that_is_not_there_is_unreachable_and_one_that_is_slow_holds_up_nobody(bed: Bed) -> None:
    where = bed.queue.namespace, bed.queue.pool
    with pytest.raises(WorkerUnreachable, match="nobody of pool mill is not connected"):
        await ask_worker(bed.transport, Address(*where, "nobody"), PING)
    worker = await bed.spawn_worker("w1")
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def ponder(ask: Wire) -> RpcAnswer:
        asked.set()
        await go_on.wait()
        return RpcAnswer(message="at last")

    async def stumble(ask: Wire) -> RpcAnswer:
        raise LookupError("a mistake of ours")

    worker.worker.verbs.add("ponder", Wire, ponder)
    worker.worker.verbs.add("stumble", Wire, stumble)
    await bed.until(lambda: worker.worker.board.ready, "w1 ready")
    slow = asyncio.create_task(
        ask_worker(bed.transport, Address(*where, "w1"), Question("ponder", Wire(), RpcAnswer, START))
    )
    await asked.wait()
    assert (await ask_worker(bed.transport, Address(*where, "w1"), PING)).ok
    broken = await ask_worker(bed.transport, Address(*where, "w1"), Question("stumble", Wire(), RpcAnswer, START))
    assert (broken.ok, broken.message) == (False, "stumble failed in the worker: LookupError: a mistake of ours")
    go_on.set()
    assert (await slow).message == "at last"
