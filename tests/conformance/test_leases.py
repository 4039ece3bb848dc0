"""Leases: a client checks out a worker's slot, calls it, gives it back; and everything that ends a lease otherwise."""

import asyncio
from typing import Any

import pytest
from millpond import (
    CallFailed,
    CallRefused,
    CallTimeout,
    CheckoutTimeout,
    Context,
    LeaseLost,
    QueueFull,
    StaleLease,
)
from millpond.asking import Question, ask_worker
from millpond.worker import errand, tenancy
from millpond_api import subjects
from millpond_api.leases import RENEW, LeaseAnswer, LeaseAsk

from tests.support.bed import START, Bed

TTL = 10.0
"""Seconds: short beside a test's patience, long beside what a machine that stalls does to a renewal."""
SHORT: dict[str, Any] = {"leases": {"ttl": TTL}, "concurrency": 1}


def counting(bed: Bed) -> None:
    """A handler that counts in its lease's state, and one that says who called."""

    @bed.app.task("count")
    async def count(ctx: Context, by: int = 1) -> int:
        assert ctx.lease is not None
        ctx.lease.state["n"] = ctx.lease.state.get("n", 0) + by
        return int(ctx.lease.state["n"])

    @bed.app.task("who")
    def who(ctx: Context) -> list[Any]:
        assert ctx.lease is not None
        return [ctx.lease.id, ctx.lease.token, ctx.lease.owner]


async def test_a_slot_is_checked_out_called_and_given_back(bed: Bed) -> None:
    counting(bed)
    await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START, owner="ann") as worker:
        assert worker.worker == "w1"
        assert await worker.call("count") == 1
        assert await worker.call("count", by=4) == 5
        assert await worker.call("who") == [worker.id, worker.token, "ann"]
        lease = worker.id
    await bed.is_empty()
    assert await bed.story(lease) == ["Running(1)@w1", "Succeeded(1)@w1"]
    async with bed.client.checkout("mill", timeout=START) as again:
        assert await again.call("count") == 1, "the state is the lease's, not the worker's"
        assert again.token > worker.token
    with pytest.raises(LeaseLost, match="was checked in"):
        await worker.call("count")
    assert await bed.dead_letters() == []


async def test_calls_of_one_lease_run_one_at_a_time_in_the_order_of_the_calls(bed: Bed) -> None:
    runs: list[str] = []

    @bed.app.task("step")
    async def step(number: int) -> int:
        runs.append(f"+{number}")
        await asyncio.sleep(0.01)
        runs.append(f"-{number}")
        return number

    await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START) as worker:
        assert await asyncio.gather(*(worker.call("step", number) for number in range(5))) == list(range(5))
    assert runs == [f"{sign}{number}" for number in range(5) for sign in "+-"]


async def test_clients_that_wait_are_served_first_come_first_served(bed: Bed) -> None:
    counting(bed)
    served: list[int] = []

    async def wait_for_it(number: int) -> None:
        async with bed.client.checkout("mill", timeout=START) as worker:
            served.append(number)
            assert await worker.call("count") == 1

    waiting = []
    for number in range(6):
        waiting.append(asyncio.create_task(wait_for_it(number)))
        await bed.holds(number + 1)
    await bed.start_worker("w1", **SHORT)
    await asyncio.gather(*waiting)
    assert served == list(range(6))
    await bed.is_empty()


async def test_a_client_that_gives_up_leaves_nothing_in_the_queue(bed: Bed) -> None:
    with pytest.raises(CheckoutTimeout, match="no worker of pool mill had a free slot within"):
        async with bed.client.checkout("mill", timeout=0.3):
            raise AssertionError("there is no worker")
    assert await bed.depth() == 0
    waits = asyncio.create_task(hold(bed))
    await bed.holds(1)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert await bed.depth() == 0


async def hold(bed: Bed) -> None:
    """Check out and keep it until cancelled."""
    async with bed.client.checkout("mill", timeout=START):
        await asyncio.Event().wait()


async def test_a_block_that_fails_or_is_cancelled_gives_its_slot_back(bed: Bed) -> None:
    counting(bed)
    worker = await bed.start_worker("w1", **SHORT)
    with pytest.raises(RuntimeError, match="mine"):
        async with bed.client.checkout("mill", timeout=START):
            raise RuntimeError("mine")
    holder = asyncio.create_task(hold(bed))
    await bed.until(lambda: worker.state == "Leased")
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    async with bed.client.checkout("mill", timeout=START) as other:
        assert await other.call("count") == 1
    await bed.is_empty()


async def test_an_owner_that_falls_silent_loses_its_lease_after_the_ttl_and_the_next_is_served(bed: Bed) -> None:
    counting(bed)
    closed: list[str] = []

    @bed.app.lease_closed
    async def note(ctx: Context) -> None:
        assert ctx.lease is not None
        closed.append(ctx.lease.owner)

    await bed.start_worker("w1", **SHORT)
    silent = await bed.open_client("silent")
    async with silent.checkout("mill", timeout=START, owner="silent") as lost:
        bed.ground.silence("silent")
        async with bed.client.checkout("mill", timeout=START) as worker:
            assert await worker.call("count") == 1
        assert closed[0] == "silent"
        assert (await bed.log(lost.id))[-1].reason == "OwnerLost"
        bed.ground.resume("silent")
        with pytest.raises(LeaseLost):
            await lost.call("count")
    await bed.is_empty()


async def test_a_call_with_another_token_or_after_the_end_is_refused_and_does_not_run(bed: Bed) -> None:
    counting(bed)
    await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START) as worker:
        for token in (worker.token - 1, worker.token + 1):
            refused = await ask(bed, RENEW, LeaseAsk(lease=worker.id, token=token))
            assert (refused.ok, refused.code) == (False, "StaleLease")
            assert str(token) in refused.message
        held = worker._granted
        worker._granted = type(held)(held.worker, held.token - 1)  # type: ignore[misc,union-attr]
        with pytest.raises(StaleLease):
            await worker.call("count")
    async with bed.client.checkout("mill", timeout=START) as worker:
        assert await worker.call("count") == 1
    after = await ask(bed, RENEW, LeaseAsk(lease=worker.id, token=worker.token))
    assert (after.ok, after.code) == (False, "StaleLease")
    await bed.is_empty()


async def ask(bed: Bed, verb: str, body: LeaseAsk) -> LeaseAnswer:
    address = subjects.Address(bed.queue.namespace, "mill", "w1")
    return await ask_worker(bed.transport, address, Question(verb, body, LeaseAnswer, START))


async def test_a_lease_ends_at_its_longest_duration_however_well_it_is_renewed(bed: Bed) -> None:
    counting(bed)
    terms = {"ttl": TTL, "max_duration": 1.5 * TTL}
    await bed.start_worker("w1", leases=terms, concurrency=1)
    async with bed.client.checkout("mill", timeout=START) as worker:
        await bed.until(lambda: worker.lost, "the end of the lease")
        assert "MaxDuration" in worker.lost
        with pytest.raises(LeaseLost, match="maxDuration"):
            await worker.call("count")
    assert [event.state for event in await bed.log(worker.id)] == ["Running", "Expired"]
    async with bed.client.checkout("mill", timeout=START) as worker:
        assert await worker.call("count") == 1


async def test_a_full_queue_refuses_a_client_at_once(bed: Bed) -> None:
    await bed.change_pool(max_depth=1)
    first = asyncio.create_task(hold(bed))
    await bed.holds(1)
    with pytest.raises(QueueFull, match="maxDepth"):
        async with bed.client.checkout("mill", timeout=START):
            raise AssertionError("there is no room")
    first.cancel()
    await asyncio.wait((first,))
    assert await bed.depth() == 0


async def test_what_a_handler_raises_reaches_the_caller_and_the_lease_goes_on(bed: Bed) -> None:
    counting(bed)

    @bed.app.task("fail")
    def fail(text: str) -> None:
        raise LookupError(text)

    await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START) as worker:
        with pytest.raises(CallFailed, match="fail failed with LookupError: no corn") as failure:
            await worker.call("fail", "no corn")
        assert failure.value.type == "LookupError"
        assert "raise LookupError(text)" in failure.value.traceback
        with pytest.raises(CallFailed, match="BadArguments"):
            await worker.call("fail", 1, 2, 3)
        with pytest.raises(CallRefused, match=r"no handler 'grind': it has count, fail, who"):
            await worker.call("grind")
        assert await worker.call("count") == 1


async def test_a_handler_in_a_process_of_its_own_is_refused_with_the_reason(bed: Bed) -> None:
    counting(bed)
    await bed.start_worker("w1", **SHORT)

    # Once the worker runs: nothing is to start processes for an app that only this test has.
    @bed.app.task("apart", isolation="process")
    def apart() -> None: ...

    async with bed.client.checkout("mill", timeout=START) as worker:
        with pytest.raises(CallRefused, match="isolation: process"):
            await worker.call("apart")
        assert await worker.call("count") == 1


async def test_large_results_come_by_the_object_store(bed: Bed) -> None:
    @bed.app.task("huge")
    async def huge(size: int) -> str:
        return "x" * size

    await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START) as worker:
        assert await worker.call("huge", 10) == "x" * 10
        assert await worker.call("huge", 3_000_000) == "x" * 3_000_000


async def test_a_call_past_its_timeout_is_stopped_and_the_next_one_runs(bed: Bed) -> None:
    counting(bed)
    stopped: list[str] = []

    @bed.app.task("sleep")
    async def sleep() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("sleep")

    await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START) as worker:
        with pytest.raises(CallTimeout, match="has not answered sleep within"):
            await worker.call("sleep", timeout=0.3)
        assert await worker.call("count") == 1
        assert stopped == ["sleep"]


async def test_a_call_that_does_not_listen_is_given_up_and_the_next_one_runs(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errand, "STOP_GRACE", 0.3)
    counting(bed)
    gate = bed.gate()

    @bed.app.task("deaf")
    def deaf() -> None:
        gate.pass_through_sync("deaf")

    await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START) as worker:
        with pytest.raises(CallTimeout):
            await worker.call("deaf", timeout=0.3)
        assert await worker.call("count") == 1
    gate.open()
    await bed.is_empty()


async def test_hooks_open_and_close_what_the_calls_of_a_lease_share(bed: Bed) -> None:
    said: list[str] = []

    @bed.app.lease_opened
    async def connect(ctx: Context) -> None:
        assert ctx.lease is not None
        ctx.lease.state["line"] = f"line of {ctx.lease.owner}"
        said.append("opened")

    @bed.app.lease_closed
    def hang_up(ctx: Context) -> None:
        assert ctx.lease is not None
        said.append(f"closed {ctx.lease.state['line']}")

    @bed.app.task("line")
    async def line(ctx: Context) -> str:
        assert ctx.lease is not None
        return str(ctx.lease.state["line"])

    worker = await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START, owner="ann") as leased:
        assert await leased.call("line") == "line of ann"
    await bed.until(lambda: worker.state == "Idle")
    assert said == ["opened", "closed line of ann"]


async def test_a_hook_that_never_ends_is_ended_and_the_slot_serves_the_next(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenancy, "HOOK_TIME", 0.3)
    counting(bed)

    @bed.app.lease_closed
    async def hang() -> None:
        await asyncio.Event().wait()

    await bed.start_worker("w1", **SHORT)
    for _ in range(2):
        async with bed.client.checkout("mill", timeout=START) as worker:
            assert await worker.call("count") == 1
    await bed.is_empty()


async def test_a_lease_that_cannot_be_opened_says_why(bed: Bed) -> None:
    @bed.app.lease_opened
    async def connect() -> None:
        raise ConnectionError("the database is away")

    await bed.start_worker("w1", **SHORT)
    with pytest.raises(LeaseLost, match="the database is away"):
        async with bed.client.checkout("mill", timeout=START):
            raise AssertionError("it was never open")
    await bed.is_empty()
    assert await bed.dead_letters() == []


async def test_a_worker_that_dies_is_a_lost_lease_for_its_owner_and_nothing_for_who_waits(bed: Bed) -> None:
    counting(bed)
    first = await bed.start_worker("w1", **SHORT)
    async with bed.client.checkout("mill", timeout=START) as lost:
        waiting = asyncio.create_task(count_once(bed))
        await bed.holds(2)
        await bed.crash(first)
        await bed.start_worker("w2", **SHORT)
        assert await waiting == 1
        with pytest.raises(LeaseLost):
            await lost.call("count")
    await bed.is_empty()


async def count_once(bed: Bed) -> int:
    async with bed.client.checkout("mill", timeout=START) as worker:
        return int(await worker.call("count"))


async def test_a_worker_that_stops_tells_the_owner_and_waits_for_it(bed: Bed) -> None:
    counting(bed)
    first = await bed.start_worker("w1", **SHORT, grace=START)
    async with bed.client.checkout("mill", timeout=START) as worker:
        stopping = asyncio.create_task(first.stop())
        await bed.until(lambda: worker.draining, "the word of the drain")
        assert await worker.call("count") == 1
    await stopping
    assert [event.state for event in await bed.log(worker.id)] == ["Running", "Succeeded"]


async def test_a_worker_past_its_grace_period_ends_the_lease_for_its_owner(bed: Bed) -> None:
    counting(bed)
    first = await bed.start_worker("w1", **SHORT, grace=0)
    async with bed.client.checkout("mill", timeout=START) as worker:
        await first.stop()
        await bed.until(lambda: worker.lost, "the word of the end")
        with pytest.raises(LeaseLost, match="stopped before"):
            await worker.call("count")
    await bed.is_empty()


async def test_a_leased_worker_says_so_with_its_owner_and_is_in_flight(bed: Bed) -> None:
    counting(bed)
    gate = bed.gate()

    @bed.app.task("wait")
    async def wait() -> None:
        await gate.pass_through("wait")

    worker = await bed.start_worker("w1", concurrency=2)
    async with bed.client.checkout("mill", timeout=START, owner="ann") as leased:
        await bed.until(lambda: worker.state == "Leased")
        beat = await bed.next_beat("w1")
        assert [(one.handler, one.owner) for one in beat.in_flight] == [("millpond.lease", "ann")]
        assert worker.worker.board.in_flight == 1
        task = await bed.submit("wait")
        await bed.until(lambda: gate.runs, "the task beside the lease")
        assert worker.state == "Leased"
        assert await leased.call("count") == 1
    await bed.until(lambda: worker.state == "Busy")
    gate.open()
    await task.result(timeout=START)
    await bed.until(lambda: worker.state == "Idle")


async def test_a_lease_goes_into_the_class_of_its_name_where_there_is_one(bed: Bed) -> None:
    counting(bed)
    await bed.change_pool(classes=("lease", "default"))
    held = asyncio.create_task(hold(bed))
    await bed.holds(1)
    stored: Any = await bed.transport.api(
        f"STREAM.INFO.{subjects.pool_stream(bed.queue.namespace, 'mill')}", {"subjects_filter": ">"}
    )
    assert list(stored["state"]["subjects"]) == [subjects.tasks(bed.queue.namespace, "mill", "lease")]
    held.cancel()
    await asyncio.wait((held,))


async def test_a_call_whose_answer_was_lost_runs_once(bed: Bed) -> None:
    counting(bed)
    gate = bed.gate()

    @bed.app.task("slow")
    async def slow(ctx: Context) -> int:
        await gate.pass_through("slow")
        assert ctx.lease is not None
        ctx.lease.state["n"] = ctx.lease.state.get("n", 0) + 1
        return int(ctx.lease.state["n"])

    await bed.start_worker("w1", leases={"ttl": START}, concurrency=1)
    mine = await bed.open_client("mine")
    async with mine.checkout("mill", timeout=START) as worker:
        calling = asyncio.create_task(worker.call("slow"))
        await bed.until(lambda: gate.runs, "the call")
        bed.ground.cut("mine")
        gate.open()
        assert await calling == 1
        assert await worker.call("count") == 2
    assert gate.runs == ["slow"]


async def test_names_of_millponds_own_cannot_be_registered(bed: Bed) -> None:
    with pytest.raises(ValueError, match="Millpond's own"):
        bed.app.task("millpond.lease")(lambda: None)
