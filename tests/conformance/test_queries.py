"""Queries: answered by the handler that runs, in its own loop or on a thread beside it, in time or with a reason."""

import asyncio
import threading
import time
from typing import Any

import pytest
from millpond import Context, NotRunning, QueryFailed, QueryTimeout, UnknownQuery

from tests.support.bed import START, Bed, Gate


async def test_an_async_handler_answers_from_its_own_loop_between_two_awaits(bed: Bed) -> None:
    gate = Gate()
    loops: list[asyncio.AbstractEventLoop] = []

    @bed.app.task("work")
    async def work(ctx: Context) -> int:
        done = {"steps": 3}
        loops.append(asyncio.get_running_loop())

        @ctx.query
        def steps(factor: int = 1) -> int:
            loops.append(asyncio.get_running_loop())
            return done["steps"] * factor

        @ctx.query("state")
        async def tell_all() -> dict[str, Any]:
            await asyncio.sleep(0)
            return done

        await gate.pass_through()
        return done["steps"]

    await bed.start_worker("w1")
    task = await bed.submit("work")
    await bed.until(lambda: bool(gate.runs), "the handler at the gate")
    assert await task.query("steps", timeout=START) == 3
    assert await task.query("steps", 2, timeout=START) == 6
    assert await task.query("state", timeout=START) == {"steps": 3}
    assert loops[0] is loops[1] is loops[2]
    with pytest.raises(UnknownQuery, match="knows no query 'speed': it answers state, steps"):
        await task.query("speed", timeout=START)
    with pytest.raises(QueryFailed, match="TypeError") as failure:
        await task.query("steps", 1, 2, 3, timeout=START)
    assert (failure.value.query, failure.value.type) == ("steps", "TypeError")
    gate.open()
    assert await task.result(timeout=START) == 3


async def test_a_plain_handler_is_asked_on_another_thread_while_it_works(bed: Bed) -> None:
    gate = Gate()
    threads: list[str] = []

    @bed.app.task("grind")
    def grind(ctx: Context) -> str:
        threads.append(threading.current_thread().name)

        @ctx.query("where")
        def where() -> str:
            threads.append(threading.current_thread().name)
            return "at the stones"

        gate.pass_through_sync()
        return "flour"

    await bed.start_worker("w1")
    task = await bed.submit("grind")
    await bed.until(lambda: bool(gate.runs), "the handler at the gate")
    assert await task.query("where", timeout=START) == "at the stones"
    assert threads[0] != threads[1]
    gate.open()
    assert await task.result(timeout=START) == "flour"


async def test_a_query_to_a_task_that_does_not_run_says_its_state(bed: Bed) -> None:
    @bed.app.task("quick")
    async def quick() -> str:
        return "done"

    task = await bed.submit("quick")
    with pytest.raises(NotRunning, match="is Queued, and only a running one can be asked: wait until it runs"):
        await task.query("anything", timeout=START)
    await bed.start_worker("w1")
    await task.result(timeout=START)
    with pytest.raises(NotRunning, match="is Succeeded") as over:
        await task.query("anything", timeout=START)
    assert over.value.state == "Succeeded"


async def test_a_handler_that_never_speaks_answers_no_query_and_says_so(bed: Bed) -> None:
    gate = Gate()

    @bed.app.task("mute")
    async def mute() -> None:
        await gate.pass_through()

    await bed.start_worker("w1")
    task = await bed.submit("mute")
    await bed.until(lambda: bool(gate.runs), "the handler at the gate")
    with pytest.raises(UnknownQuery, match=r"it answers none \(yet\)"):
        await task.query("x", timeout=START)
    gate.open()
    await task.result(timeout=START)


async def test_a_query_that_takes_too_long_is_given_up_and_the_task_and_its_worker_go_on(bed: Bed) -> None:
    gate, stuck = Gate(), threading.Event()

    @bed.app.task("slow-answer")
    def slow_answer(ctx: Context) -> str:
        @ctx.query
        def ponder() -> None:
            stuck.wait(START)

        @ctx.query
        def quick() -> str:
            return "here"

        gate.pass_through_sync()
        return "done"

    await bed.start_worker("w1")
    task = await bed.submit("slow-answer")
    await bed.until(lambda: bool(gate.runs), "the handler at the gate")
    with pytest.raises(QueryTimeout, match=r"no answer to query 'ponder' within 0\.2 s"):
        await task.query("ponder", timeout=0.2)
    assert await task.query("quick", timeout=START) == "here"
    stuck.set()
    gate.open()
    assert await task.result(timeout=START) == "done"


async def test_a_query_finds_the_task_at_the_worker_where_it_runs_now(bed: Bed) -> None:
    """The handle remembers w1, which dies; the same handle's next query goes to w2."""
    gate = Gate()

    @bed.app.task("work")
    async def work(ctx: Context) -> None:
        ctx.query("attempts")(lambda: len(gate.runs) + 1)
        await gate.pass_through("run")

    first = await bed.start_worker("w1")
    task = await bed.submit("work")
    await bed.until(lambda: len(gate.runs) == 1, "the first run")
    assert await task.query("attempts", timeout=START) == 2
    assert task.runs_at == "w1"
    await bed.crash(first)
    await bed.start_worker("w2")
    await bed.until(lambda: len(gate.runs) == 2, "the second run")
    assert await task.query("attempts", timeout=START) == 3
    assert task.runs_at == "w2"
    gate.open()
    await task.result(timeout=START)


# In memory everything has one loop: who blocks it there blocks the test.
@pytest.mark.parametrize("broker", ["nats"])
async def test_a_handler_that_blocks_its_loop_lets_a_query_time_out(bed: Bed) -> None:
    entered, go_on = threading.Event(), threading.Event()

    @bed.app.task("block")
    async def block(ctx: Context) -> str:
        ctx.query("alive")(lambda: True)
        entered.set()
        while not go_on.is_set():
            time.sleep(0.02)  # noqa: ASYNC251  # that it blocks is the point
        return "done"

    await bed.start_worker("w1")
    task = await bed.submit("block")
    await bed.until(entered.is_set, "the handler")
    with pytest.raises(QueryTimeout, match="its event loop is blocked"):
        await task.query("alive", timeout=0.3)
    go_on.set()
    assert await task.result(timeout=START) == "done"
