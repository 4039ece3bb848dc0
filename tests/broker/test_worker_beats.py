"""Heartbeats: one that says nothing new is the same, byte for byte, and comes more rarely; news comes at once."""

import asyncio

from millpond_api.events import Beat

from tests.support.workers import START, Mill


async def test_an_idle_workers_beats_are_the_same_bytes_and_news_comes_at_once(mill: Mill) -> None:
    subject = f"mp.beat.{mill.queue.namespace}.{mill.queue.pool}.w1"
    subscription = await mill.connection.subscribe(subject)
    await mill.start("w1", beat=0.2)

    async def next_beat() -> bytes:
        return (await subscription.next_msg(timeout=START)).data

    async with asyncio.timeout(START):
        said = [await next_beat()]
        while said[-6:].count(said[-1]) < 6:
            said.append(await next_beat())
        await mill.client.submit(mill.queue.pool, "echo", ["news"])
        while (last := await next_beat()) == said[-1]:
            pass
    assert Beat.decode(said[-1]).state == "Idle"
    assert Beat.decode(last) != Beat.decode(said[-1])
