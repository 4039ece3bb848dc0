"""A map through a queue that is smaller than its window asks the broker seldom for room that is not there."""

import asyncio
from typing import Any

import pytest
from millpond import App, Client, QueueFull
from millpond.testing import Pool
from millpond_api.broker import QueueConfig


async def test_a_map_through_a_small_queue_is_seldom_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    app, refused = App(), 0
    submit_many = Client.submit_many

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal refused
        try:
            return await submit_many(*args, **options)
        except QueueFull:
            refused += 1
            raise

    @app.task("wait")
    async def wait(number: int) -> int:
        await asyncio.sleep(1)
        return number

    monkeypatch.setattr(Client, "submit_many", counted)
    async with Pool(app, queue=QueueConfig("test", "pool", max_depth=50), concurrency=4) as pool:
        begun = pool.clock.elapsed
        assert [one async for one in pool.client.map("pool", "wait", range(400))] == list(range(400))
        # 19 here; asking after each result had 402, of up to 200 tasks each.
        assert refused <= 50
        assert pool.clock.elapsed - begun < 105, "the workers ran dry"
