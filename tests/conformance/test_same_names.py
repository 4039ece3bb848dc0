"""A task id is a name within its pool: what another pool calls the same is another task, also in shared streams."""

from dataclasses import replace

from millpond import RetryPolicy
from millpond_api import subjects

from tests.support.bed import Bed


async def _count(bed: Bed, stream: str, subject: str) -> int:
    info = await bed.transport.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
    state = info["state"]
    assert isinstance(state, dict)
    return sum((state.get("subjects") or {}).values())


async def _make_mine(bed: Bed) -> tuple[str, str]:
    await bed.ground.ensure_pool(replace(bed.queue, pool="mine"))
    return "mill", "mine"


async def test_the_same_id_in_two_pools_keeps_both_delayed_tasks_and_cancels_one(bed: Bed) -> None:
    pools = await _make_mine(bed)
    first, second = [await bed.client.submit(pool, "echo", [1], task_id="daily", delay=3600) for pool in pools]
    later = [subjects.later(bed.queue.namespace, pool, "daily") for pool in pools]
    assert [await _count(bed, subjects.STREAM_DELAYED, one) for one in later] == [1, 1]
    assert await first.cancel()
    assert [await _count(bed, subjects.STREAM_DELAYED, one) for one in later] == [0, 1]
    assert (await second.status()).state == "Scheduled"


async def test_the_same_id_that_fails_in_two_pools_leaves_two_dead_letters(bed: Bed) -> None:
    pools = await _make_mine(bed)

    @bed.app.task("refuse")
    async def refuse() -> None:
        raise ValueError("never")

    await bed.start_worker("w1")
    await bed.start_worker("w2", pool="mine")
    for pool in pools:
        task = await bed.client.submit(pool, "refuse", task_id="daily", retry=RetryPolicy(max_attempts=1))
        assert (await task.wait(timeout=30)).state == "Failed"
        await bed.until(lambda pool=pool: _has_letter(bed, pool), f"the letter of {pool}")


async def _has_letter(bed: Bed, pool: str) -> bool:
    return await _count(bed, subjects.STREAM_DEAD, subjects.dead(bed.queue.namespace, pool, "daily")) == 1
