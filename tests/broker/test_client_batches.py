"""Bulk submission is one atomic batch: all or none, once, also when the answer is lost on the way."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from millpond import transport as wire
from millpond.client import Client
from millpond.errors import BrokerRefused, QueueFull
from millpond_api import broker, subjects
from millpond_api.broker import QueueConfig
from millpond_operator.broker import streams

from tests.support.nats import NatsServer, api, connected, ensure_pool, queue_depth
from tests.support.proxy import Proxy


@pytest.fixture
async def client(nats_server: NatsServer, pool: QueueConfig) -> AsyncIterator[Client]:
    async with Client.connect(nats_server.url, namespace=pool.namespace) as client:
        yield client


async def test_batch_without_room_stores_none_of_its_tasks(nats_server: NatsServer, namespace: str) -> None:
    await ensure_pool(nats_server.url, QueueConfig(namespace, "mill", max_depth=10))
    async with Client.connect(nats_server.url, namespace=namespace) as client:
        with pytest.raises(QueueFull, match="0 of 25 tasks were submitted"):
            await client.submit_many("mill", "noop", [[]] * 25)
        assert await queue_depth(nats_server.url, namespace, "mill") == 0
        await client.submit_many("mill", "noop", [[]] * 10)
    assert await queue_depth(nats_server.url, namespace, "mill") == 10


async def test_more_than_a_batch_says_how_many_got_in(nats_server: NatsServer, namespace: str) -> None:
    await ensure_pool(nats_server.url, QueueConfig(namespace, "mill", max_depth=1500))
    async with Client.connect(nats_server.url, namespace=namespace) as client:
        with pytest.raises(QueueFull, match="1000 of 2000 tasks were submitted"):
            await client.submit_many("mill", "noop", [[]] * 2000)
    assert await queue_depth(nats_server.url, namespace, "mill") == 1000


async def test_lost_answer_of_a_batch_stores_each_task_once(nats_server: NatsServer, pool: QueueConfig) -> None:
    """The server has stored the batch, its answer never comes: the second try meets the ids of the first."""
    proxy = await Proxy(nats_server.port).start()
    async with Client.connect(f"nats://127.0.0.1:{proxy.port}", namespace=pool.namespace) as client:
        await client.submit("mill", "noop")
        proxy.cut_at_answer(b'"batch":')
        handles = await client.submit_many("mill", "noop", [[n] for n in range(100)])
        assert proxy.cuts == 1
        assert len({handle.id for handle in handles}) == 100
    proxy.close()
    assert await queue_depth(nats_server.url, pool.namespace, "mill") == 101


async def test_repeated_batch_adds_only_what_was_not_there(
    client: Client, nats_server: NatsServer, pool: QueueConfig
) -> None:
    await client.submit_many("mill", "noop", [[n] for n in range(3)], task_ids=["a", "b", "c"])
    handles = await client.submit_many("mill", "noop", [[n] for n in range(4)], task_ids=["a", "b", "c", "d"])
    assert [handle.id for handle in handles] == ["a", "b", "c", "d"]
    assert await queue_depth(nats_server.url, pool.namespace, "mill") == 4


async def test_ids_that_do_not_fit_the_tasks_are_refused_before_anything_is_sent(
    client: Client, nats_server: NatsServer, pool: QueueConfig
) -> None:
    for ids in (["a"], ["a", "a"]):
        with pytest.raises(ValueError, match="for 2 tasks"):
            await client.submit_many("mill", "noop", [[1], [2]], task_ids=ids)
    assert await queue_depth(nats_server.url, pool.namespace, "mill") == 0


async def test_delayed_tasks_are_scheduled_as_one_batch_and_say_so(client: Client, nats_server: NatsServer) -> None:
    handles = await client.submit_many("mill", "noop", [[n] for n in range(20)], delay=3600)
    async with connected(nats_server.url) as connection:
        for handle in handles:
            info = {"last_by_subj": subjects.later(client.namespace, "mill", handle.id)}
            found = await api(connection, f"STREAM.MSG.GET.{subjects.STREAM_DELAYED}", info)
            assert found["message"]["subject"] == subjects.later(client.namespace, "mill", handle.id)
    assert {(await handle.status()).state for handle in handles} == {"Scheduled"}


async def without_batches(transport: wire.Transport, name: str) -> None:
    """Make the stream as an older release left it."""
    info: dict[str, Any] = await transport.api(f"STREAM.INFO.{name}")
    await transport.api(f"STREAM.UPDATE.{name}", info["config"] | {"allow_atomic": False})


async def test_stream_of_an_older_operator_refuses_a_batch_and_is_upgraded(
    client: Client, nats_server: NatsServer, pool: QueueConfig
) -> None:
    name = broker.pool_stream(pool)["name"]
    await without_batches(client.transport, name)
    with pytest.raises(BrokerRefused, match="operator is older"):
        await client.submit_many("mill", "noop", [[1], [2]])
    await streams.ensure_pool(client.transport, pool)
    assert len(await client.submit_many("mill", "noop", [[1], [2]])) == 2
    assert await queue_depth(nats_server.url, pool.namespace, "mill") == 2


async def test_shared_stream_of_an_older_operator_is_upgraded(own_nats_server: NatsServer, namespace: str) -> None:
    await ensure_pool(own_nats_server.url, QueueConfig(namespace, "mill"))
    async with Client.connect(own_nats_server.url, namespace=namespace) as client:
        await without_batches(client.transport, subjects.STREAM_DELAYED)
        await streams.ensure_shared(client.transport, "file", 1)
        await client.submit_many("mill", "noop", [[1], [2]], delay=3600)
        before = await client.transport.api(f"STREAM.INFO.{subjects.STREAM_EVENTS}")
        await streams.ensure_shared(client.transport, "file", 1)
        after = await client.transport.api(f"STREAM.INFO.{subjects.STREAM_EVENTS}")
    assert json.dumps(before["config"]) == json.dumps(after["config"])
