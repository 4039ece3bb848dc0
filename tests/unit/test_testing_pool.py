"""`millpond.testing.Pool`: handlers run as in a pod, hours pass in milliseconds, and what can go wrong does."""

import asyncio
import gc
import time
from datetime import UTC, datetime, timedelta

import pytest
from millpond import App, Context, RetryPolicy, TaskFailed
from millpond.testing import STEPS, Clock, NoVirtualTime, Pool
from millpond_api.events import utc_now
from millpond_api.lifecycle import TaskState

app = App()
SLOW = RetryPolicy(max_attempts=4, initial=60.0, factor=2.0, jitter=0.0)


@app.task("double")
async def double(value: int) -> int:
    return 2 * value


@app.task("plain")
def plain(value: int) -> int:
    return value + 1


@app.task("flaky", retry=SLOW)
async def flaky(ctx: Context) -> int:
    if ctx.attempt < 4:
        raise ConnectionError("not yet")
    return ctx.attempt


@app.task("nap")
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@pytest.fixture
def millpond_app() -> App:
    return app


async def test_the_fixture_brings_a_pool_that_serves_the_app(millpond_pool: Pool) -> None:
    assert await millpond_pool.call("double", 21) == 42
    assert await millpond_pool.call("plain", 1) == 2


async def test_three_backoffs_of_minutes_take_no_real_time() -> None:
    async with Pool(app) as pool:
        began = time.monotonic()
        task = await pool.submit("flaky")
        assert await task.result() == 4
        # Times on the wire have microseconds, of which each delay may lose a fraction.
        assert pool.clock.elapsed >= 60 + 120 + 240 - 0.001
        assert time.monotonic() - began < 60
        states = [event.state for event in await pool.log(task)]
        assert states == ["Running", "Backoff"] * 3 + ["Running", "Succeeded"]


async def test_advance_stops_short_of_what_is_not_due() -> None:
    async with Pool(app) as pool:
        task = await pool.submit("nap", 100)
        await pool.clock.advance(99)
        assert (await task.status()).state == TaskState.RUNNING
        await pool.clock.advance(2)
        assert (await task.status()).state == TaskState.SUCCEEDED


async def test_a_plain_handler_that_blocks_is_not_jumped_over() -> None:
    app = App()

    @app.task("block", retry=RetryPolicy(max_attempts=1))
    def block() -> str:
        time.sleep(0.2)
        return "done"

    async with Pool(app) as pool:
        task = await pool.submit("block", deadline=timedelta(minutes=1))
        assert await task.result() == "done"
        assert pool.clock.elapsed < 30


async def test_a_plain_handler_that_waits_for_its_deadline_gets_it_by_advance() -> None:
    app = App()
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.task("patient")
    def patient(ctx: Context) -> None:
        loop.call_soon_threadsafe(entered.set)
        while not ctx.cancelled:
            time.sleep(0.001)

    async with Pool(app) as pool:
        task = await pool.submit("patient", deadline=timedelta(hours=1))
        await entered.wait()
        await pool.clock.advance(3601)
        assert (await task.status()).state == TaskState.EXPIRED


async def test_work_in_an_executor_is_waited_for_really() -> None:
    with Clock() as clock:
        await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.05), timeout=60)
        assert clock.elapsed < 60


async def test_utc_now_and_the_loop_tell_the_same_time_and_the_clock_of_others_goes_on() -> None:
    moment = datetime(2031, 1, 1, tzinfo=UTC)
    with Clock(moment) as clock:
        await asyncio.sleep(86400)
        assert utc_now() == moment + timedelta(days=1) == clock.now()
    assert abs(utc_now() - datetime.now(UTC)) < timedelta(seconds=5)
    before = asyncio.get_running_loop().time()
    await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - before < 60


async def test_two_clocks_in_one_loop_are_refused_with_a_sentence() -> None:
    with Clock(), pytest.raises(NoVirtualTime, match="one Pool or Clock at a time"):
        Clock().__enter__()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["claim", "commit", "schedule", "dead letter", "ack"])
async def test_a_worker_that_crashes_at_any_step_loses_no_task(step: str, after: bool) -> None:
    app = App()
    tries: list[int] = []
    fails = step in ("schedule", "dead letter")

    @app.task("work", retry=RetryPolicy(max_attempts=2, initial=1.0, jitter=0.0))
    async def work(ctx: Context) -> str:
        tries.append(ctx.attempt)
        if fails:
            raise RuntimeError("as told")
        return "done"

    async with Pool(app, workers=0) as pool:
        await pool.start_worker("w1")
        rule = pool.faults.crash("w1", step, after=after)
        task = await pool.submit("work")
        await pool.until(lambda: rule.happened, f"the crash at {step}")
        assert "w1" not in pool.workers
        await pool.start_worker("w2")
        if fails:
            with pytest.raises(TaskFailed):
                await task.result()
        else:
            assert await task.result() == "done"
        await pool.is_empty()
        log = await pool.log(task)
        outcomes = [(event.state, event.attempt) for event in log if event.state != TaskState.RUNNING]
        expected = [("Backoff", 1), ("Failed", 2)] if fails else [("Succeeded", 1)]
        assert outcomes == expected
        assert len(await pool.dead_letters()) == (1 if fails else 0)
        assert len(tries) <= len(expected) + 1


@pytest.mark.parametrize("fault", ["lose_answer", "lose_request", "twice", "cut", "delay"])
@pytest.mark.parametrize("step", ["submit", "pull", "claim", "commit", "ack"])
async def test_one_disturbance_at_any_step_leaves_one_outcome_and_one_run(step: str, fault: str) -> None:
    app = App()
    runs: list[str] = []

    @app.task("work")
    async def work(ctx: Context) -> str:
        runs.append(ctx.task_id)
        return "done"

    async with Pool(app) as pool:
        party = "client" if step == "submit" else "w1"
        how = {"delay": {"seconds": 0.5}}.get(fault, {})
        rule = getattr(pool.faults, fault)(party, step, **how)
        task = await pool.submit("work")
        assert await task.result() == "done"
        await pool.until(lambda: rule.happened, f"{fault} at {step}")
        await pool.is_empty()
        assert runs == [task.id]
        assert [event.state for event in await pool.log(task)] == ["Running", "Succeeded"]


async def test_a_lease_that_runs_out_under_a_running_handler_costs_no_second_run() -> None:
    async with Pool(app) as pool:
        task = await pool.submit("nap", 10)
        await pool.clock.advance(1)
        pool.faults.expire_leases(pool.stream)
        assert await task.result() == "rested"
        assert [event.state for event in await pool.log(task)] == ["Running", "Succeeded"]


async def test_a_client_that_a_handler_cut_off_comes_back_after_that_handlers_worker_died() -> None:
    app = App()

    @app.task("outage")
    async def outage() -> None:
        pool.server.stop()
        await asyncio.sleep(3600)

    async with Pool(app) as pool:
        task = await pool.submit("outage")
        await pool.until(lambda: not pool.transport.connected, "the outage")
        pool.crash("w1")
        pool.server.start()
        await pool.until(lambda: pool.transport.connected, "the client's return")
        assert await task.cancel()


async def test_an_unknown_step_is_refused_and_names_those_there_are() -> None:
    async with Pool(app, workers=0) as pool:
        with pytest.raises(ValueError, match=", ".join(STEPS)):
            pool.faults.crash("w1", "lunch")


async def test_a_simple_task_takes_less_processor_than_three_hundred_thousand_calls() -> None:
    """A thousand tests of a user's handlers take seconds: 2 ms each on the core on which 300,000 empty calls take 8 ms.
    Both are measured here, side by side and the best of five, because what a core does in 8 ms is the machine's."""
    task = yardstick = 60.0
    async with Pool(app) as pool:
        for _ in range(5):
            began = time.process_time()
            for _ in range(300_000):
                nothing()
            yardstick = min(yardstick, time.process_time() - began)
            began = time.process_time()
            for number in range(20):
                assert await pool.call("double", number) == 2 * number
            task = min(task, (time.process_time() - began) / 20)
        assert task < yardstick, (task, yardstick)


def nothing() -> None:
    """What the yardstick calls."""


async def test_a_task_that_has_ended_leaves_nothing_to_the_garbage_collector() -> None:
    """28 objects a task in reference cycles made the collector a tenth of the worker's CPU."""
    async with Pool(app) as pool:
        await pool.call("double", 1)
        gc.collect()
        gc.disable()
        try:
            for number in range(50):
                assert await pool.call("double", number) == 2 * number
                assert await pool.call("plain", number) == number + 1
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [type(thing).__name__ for thing in gc.garbage]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not {"Attempt", "Job", "Message", "Envelope", "_InlineRun"} & set(left)


async def test_a_handler_that_wants_a_process_runs_in_the_test() -> None:
    own, seen = App(), []

    @own.task("plain", isolation="process")
    def plain(value: int) -> int:
        seen.append(value)
        return 2 * value

    @own.task("async", isolation="process")
    async def patient(value: int) -> int:
        await asyncio.sleep(3600)
        seen.append(value)
        return 3 * value

    async with Pool(own) as pool:
        assert (await pool.call("plain", 1), await pool.call("async", 2)) == (2, 6)
    assert seen == [1, 2]


async def test_a_call_of_a_handler_that_nobody_has_is_refused_instead_of_waiting_for_ever() -> None:
    async with Pool(app) as pool:
        with pytest.raises(LookupError, match=r"no worker .* 'tpyo': there are .*submit\(\)"):
            await pool.call("tpyo")
