"""Cancelling: a compare-and-set on the log, so it never overwrites an outcome and never loses to a moving log."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from millpond.client import Client
from millpond.errors import TaskCancelled
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.events import CancelAsk
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.js.errors import APIError

from tests.support.nats import NatsServer, api, connected
from tests.support.tasklog import TaskLog


@pytest.fixture
async def client(nats_server: NatsServer, pool: QueueConfig) -> AsyncIterator[Client]:
    async with Client.connect(nats_server.url, namespace=pool.namespace) as client:
        yield client


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connected(nats_server.url) as connection:
        yield connection


async def test_waiting_task_is_cancelled_and_its_waiter_told(client: Client) -> None:
    handle = await client.submit("mill", "noop")
    result = asyncio.ensure_future(handle.result(60))
    assert await handle.cancel("changed my mind")
    with pytest.raises(TaskCancelled, match="changed my mind"):
        await result
    status = await handle.status()
    assert (status.state, status.attempts) == ("Cancelled", 0)


async def test_scheduled_task_is_cancelled_with_its_schedule(client: Client, connection: Connection) -> None:
    handle = await client.submit("mill", "noop", delay=3600)
    assert await handle.cancel()
    ask = {"subjects_filter": subjects.later(client.namespace, "mill", handle.id)}
    info = await api(connection, f"STREAM.INFO.{subjects.STREAM_DELAYED}", ask)
    assert not info["state"].get("subjects")


@pytest.mark.parametrize("state", ["Succeeded", "Failed", "Expired"])
async def test_outcome_that_stands_is_never_overwritten(
    client: Client, connection: Connection, pool: QueueConfig, state: str
) -> None:
    log = TaskLog(connection, pool, "t1")
    await log.write("Running")
    await log.write(state)
    handle = client.handle("mill", "t1")
    assert not await handle.cancel()
    assert [event.state for event in await handle.events()] == ["Running", state]


async def test_cancelling_twice_writes_one_event(client: Client) -> None:
    handle = await client.submit("mill", "noop")
    assert all(await asyncio.gather(handle.cancel(), handle.cancel(), handle.cancel()))
    assert [event.state for event in await handle.events()] == ["Cancelled"]


async def test_running_worker_is_told_and_fenced(client: Client, connection: Connection, pool: QueueConfig) -> None:
    told: asyncio.Queue[Msg] = asyncio.Queue()

    async def answer(message: Msg) -> None:
        await told.put(message)
        await message.respond(b'{"ok":true}')

    await connection.subscribe(subjects.rpc(pool.namespace, "mill", "w1", "cancel"), cb=answer)
    await connection.flush()
    log = TaskLog(connection, pool, "t1")
    await log.write("Running", worker="w1")
    assert await client.handle("mill", "t1").cancel()
    assert CancelAsk.model_validate_json((await asyncio.wait_for(told.get(), 30)).data).task == "t1"
    with pytest.raises(APIError, match="wrong last sequence"):
        await log.write("Succeeded")


async def test_worker_that_is_gone_does_not_hinder_a_cancel(
    client: Client, connection: Connection, pool: QueueConfig
) -> None:
    await TaskLog(connection, pool, "t1").write("Running", worker="gone")
    assert await client.handle("mill", "t1").cancel()


async def test_cancel_and_outcome_at_the_same_moment_record_one_of_them(
    client: Client, connection: Connection, pool: QueueConfig
) -> None:
    """Whoever stores first wins, both sides agree on it, and the log ends there."""
    for number in range(20):
        log = TaskLog(connection, pool, f"race-{number}")
        await log.write("Running", worker="gone")
        handle = client.handle("mill", f"race-{number}")
        cancelled, outcome = await asyncio.gather(handle.cancel(), log.write("Succeeded"), return_exceptions=True)
        assert cancelled is isinstance(outcome, APIError)
        states = [event.state for event in await handle.events()]
        assert states == ["Running", "Cancelled" if cancelled else "Succeeded"]
