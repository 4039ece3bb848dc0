"""Unique submissions and room in a full queue: who stands, who yields, who waits, and what a dead submitter leaves."""

import asyncio

import pytest
from millpond import QueueFull, TaskCancelled, Unique
from millpond.limitstore import LimitStore
from millpond.unique import Lock
from millpond_api.lifecycle import TaskState

from tests.support.bed import START, Bed, Gate


def gated(bed: Bed) -> Gate:
    gate = Gate()

    @bed.app.task("gated")
    async def handler(label: str) -> str:
        await gate.pass_through(label)
        return label

    return gate


async def test_a_second_submission_is_answered_with_the_task_that_stands(bed: Bed) -> None:
    gate = gated(bed)
    one = await bed.submit("gated", "same", unique=Unique())
    again = await bed.submit("gated", "same", unique=Unique())
    other = await bed.submit("gated", "other", unique=Unique())
    assert again.id == one.id != other.id
    await bed.start_worker("w1")
    await bed.until(lambda: len(gate.runs) == 2, "both running")
    assert (await bed.submit("gated", "same", unique=Unique())).id == one.id
    gate.open()
    assert await again.result(timeout=START) == "same"
    await bed.is_empty()
    fresh = await bed.submit("gated", "same", unique=Unique())
    assert fresh.id != one.id
    assert await fresh.result(timeout=START) == "same"
    assert sorted(gate.runs) == ["other", "same", "same"]


async def test_of_many_submissions_at_once_one_runs(bed: Bed) -> None:
    gate = gated(bed)
    clients = [await bed.open_client(f"c{number}") for number in range(4)]
    unique = Unique(key="nightly")
    submissions = [
        client.submit(bed.queue.pool, "gated", [str(number)], unique=unique)
        for number in range(4)
        for client in clients
    ]
    handles = await asyncio.gather(*submissions)
    assert len({handle.id for handle in handles}) == 1
    gate.open()
    await bed.start_worker("w1")
    await handles[0].result(timeout=START)
    await bed.is_empty()
    assert len(gate.runs) == 1


async def test_a_lock_whose_submitter_died_is_finished_by_the_next(bed: Bed) -> None:
    gate = gated(bed)
    gate.open()
    store = LimitStore(bed.transport, bed.queue.namespace, bed.queue.pool)
    await store.swap("unique", "nightly", Lock(task="of-the-dead", key="nightly"), 0, 60.0)
    task = await bed.submit("gated", "x", unique=Unique(key="nightly"))
    assert task.id == "of-the-dead"
    await bed.start_worker("w1")
    assert await task.result(timeout=START) == "x"
    assert len(gate.runs) == 1


async def test_a_lock_whose_task_was_cancelled_before_it_was_stored_holds_up_nobody(bed: Bed) -> None:
    """The submitter met a full queue and was told to forget it: its task has ended, and would never run."""
    gate = gated(bed)
    gate.open()
    store = LimitStore(bed.transport, bed.queue.namespace, bed.queue.pool)
    await store.swap("unique", "nightly", Lock(task="given-up", key="nightly"), 0, 60.0)
    assert await bed.client.handle(bed.queue.pool, "given-up").cancel()
    await bed.start_worker("w1")
    assert await bed.call("gated", "x", unique=Unique(key="nightly")) == "x"
    assert len(gate.runs) == 1


async def test_whoever_finishes_or_replaces_the_task_of_an_object_names_that_object_in_its_log(bed: Bed) -> None:
    """Without the name nobody would tell the object what became of it."""
    gated(bed)
    store = LimitStore(bed.transport, bed.queue.namespace, bed.queue.pool)
    await store.swap("unique", "nightly", Lock(task="uid", key="nightly", object="report"), 0, 60.0)
    finished = await bed.submit("gated", "x", unique=Unique(key="nightly"))
    assert finished.id == "uid"
    await bed.submit("gated", "y", unique=Unique(key="nightly", on_conflict="replace"))
    assert [(event.state, event.object) for event in await finished.events()] == [("Cancelled", "report")]


async def test_replace_ends_what_waits_and_leaves_what_runs(bed: Bed) -> None:
    gate = gated(bed)
    unique = Unique(key="k", on_conflict="replace")
    old = await bed.submit("gated", "old", unique=unique)
    new = await bed.submit("gated", "new", unique=unique)
    assert new.id != old.id
    with pytest.raises(TaskCancelled, match=new.id):
        await old.result(timeout=START)
    await bed.start_worker("w1")
    await bed.until(lambda: gate.runs == ["new"], "the new one running")
    assert (await bed.submit("gated", "third", unique=unique)).id == new.id
    gate.open()
    assert await new.result(timeout=START) == "new"
    await bed.is_empty()


async def test_debounce_runs_the_last_of_a_bunch_once(bed: Bed) -> None:
    gate = gated(bed)
    gate.open()
    unique = Unique(key="k", on_conflict="debounce")
    handles = [await bed.submit("gated", str(number), unique=unique, delay=1.5) for number in range(4)]
    # Not before: on a machine that stalls for longer than the delay, the first would have run by now.
    await bed.start_worker("w1")
    assert await handles[-1].result(timeout=START) == "3"
    assert gate.runs == ["3"]
    with pytest.raises(ValueError, match="needs a delay"):
        await bed.submit("gated", "x", unique=unique)


async def test_a_period_holds_past_the_end_of_the_task_and_no_longer(bed: Bed) -> None:
    gate = gated(bed)
    gate.open()
    await bed.start_worker("w1")
    long, short = Unique(key="long", period=3600), Unique(key="short", period=3)
    first, other = [await bed.submit("gated", "first", unique=unique) for unique in (long, short)]
    await first.result(timeout=START)
    assert (await bed.submit("gated", "second", unique=long)).id == first.id

    async def free() -> bool:
        return (await bed.submit("gated", "third", unique=short)).id != other.id

    began = bed.ground.now()
    await bed.until(free, "the end of the period")
    assert bed.ground.now() - began <= 3 + 2 + bed.ground.stalls
    assert (await bed.submit("gated", "fourth", unique=long)).id == first.id


async def test_only_the_states_that_count_stand_in_the_way(bed: Bed) -> None:
    gate = gated(bed)
    unique = Unique(key="k", states=frozenset({TaskState.QUEUED}))
    first = await bed.submit("gated", "first", unique=unique)
    await bed.start_worker("w1")
    await bed.until(lambda: gate.runs == ["first"], "the first running")
    second = await bed.submit("gated", "second", unique=unique)
    assert second.id != first.id
    gate.open()
    assert await second.result(timeout=START) == "second"


async def test_a_submission_waits_for_room_and_gives_up_after_its_time(bed: Bed) -> None:
    await bed.change_pool(max_depth=2)
    gate = gated(bed)
    for number in range(2):
        await bed.submit("gated", str(number))
    with pytest.raises(QueueFull):
        await bed.submit("gated", "at once")
    with pytest.raises(QueueFull):
        await bed.submit("gated", "for a moment", wait=0.3)
    waiting = asyncio.create_task(bed.submit("gated", "patient", wait=START))
    gate.open()
    await bed.start_worker("w1")
    assert await (await waiting).result(timeout=START) == "patient"
