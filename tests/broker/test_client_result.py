"""Waiting for a task: the outcome arrives by push, as a value or a typed error, through lost connections too."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from millpond import handle as handles
from millpond.client import Client
from millpond.errors import ResultTimeout, TaskCancelled, TaskExpired, TaskFailed
from millpond.handle import TaskHandle
from millpond_api.broker import QueueConfig
from millpond_api.events import TaskError

from tests.support.eventually import eventually
from tests.support.nats import NatsServer, connected, ensure_pool, free_port
from tests.support.tasklog import TaskLog


@pytest.fixture
async def client(nats_server: NatsServer, pool: QueueConfig) -> AsyncIterator[Client]:
    async with Client.connect(nats_server.url, namespace=pool.namespace) as client:
        yield client


@pytest.fixture
async def log(nats_server: NatsServer, pool: QueueConfig) -> AsyncIterator[TaskLog]:
    async with connected(nats_server.url) as connection:
        yield TaskLog(connection, pool, "t1")


async def waiting(client: Client, handle: TaskHandle, timeout: float | None = 120) -> "asyncio.Task[Any]":
    """A running `result` call that has read the log once, so that only a push (or the backstop) can end it."""
    task = asyncio.ensure_future(handle.result(timeout))
    await eventually(lambda: client._waiters, what="result() waits")
    # The first read's answer lies on the same connection before this one's.
    await handle.status()
    return task


async def test_result_is_pushed_to_the_one_who_waits(
    client: Client, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "BACKSTOP", (3600.0, 3600.0))
    result = await waiting(client, client.handle("mill", "t1"))
    await log.write("Running")
    assert not result.done()
    await log.write("Succeeded", result={"lines": 7, "none": None})
    assert await asyncio.wait_for(result, 60) == {"lines": 7, "none": None}


async def test_result_of_a_task_that_ended_before_is_read(client: Client, log: TaskLog) -> None:
    await log.write("Running")
    await log.write("Succeeded", result=[1])
    assert await client.handle("mill", "t1").result(60) == [1]


async def test_ended_between_listening_and_reading_is_not_missed(
    client: Client, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty outcomes, each stored at about the moment in which somebody starts to wait."""
    # Nothing but the read and the push can find it.
    monkeypatch.setattr(handles, "BACKSTOP", (3600.0, 3600.0))
    for number in range(20):
        log_of_one = TaskLog(log.connection, log.queue, f"race-{number}")
        result = asyncio.ensure_future(client.handle("mill", f"race-{number}").result(60))
        await log_of_one.write("Succeeded", result=number)
        assert await result == number


async def test_push_that_was_lost_is_found_by_the_backstop(
    client: Client, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "BACKSTOP", (0.05, 0.1))
    monkeypatch.setattr("millpond_api.subjects.feed", lambda subject: "mp.feed.nowhere")
    result = await waiting(client, client.handle("mill", "t1"))
    await log.write("Succeeded", result="found")
    assert await result == "found"


async def test_failure_arrives_with_type_message_traceback_and_attempts(client: Client, log: TaskLog) -> None:
    error = TaskError(type="ZeroDivisionError", message="division by zero", traceback="Traceback …")
    await log.write("Running")
    await log.write("Failed", attempt=3, error=error)
    with pytest.raises(TaskFailed, match="after 3 attempts with ZeroDivisionError: division by zero") as caught:
        await client.handle("mill", "t1").result(60)
    failed = caught.value
    assert (failed.type, failed.message, failed.traceback, failed.attempts) == (
        "ZeroDivisionError",
        "division by zero",
        "Traceback …",
        3,
    )


@pytest.mark.parametrize(("state", "error"), [("Cancelled", TaskCancelled), ("Expired", TaskExpired)])
async def test_other_ends_are_errors_of_their_own(
    client: Client, log: TaskLog, state: str, error: type[Exception]
) -> None:
    await log.write(state, message="by hand")
    with pytest.raises(error, match="by hand"):
        await client.handle("mill", "t1").result(60)


async def test_timeout_is_the_callers_and_the_task_goes_on(client: Client, log: TaskLog) -> None:
    await log.write("Running")
    handle = client.handle("mill", "t1")
    with pytest.raises(ResultTimeout, match=r"within 0\.2 s: it goes on"):
        await handle.result(0.2)
    await log.write("Succeeded", result=1)
    assert await handle.result(60) == 1


async def test_waiters_leave_nothing_behind(client: Client, log: TaskLog) -> None:
    handle = client.handle("mill", "t1")
    results = [await waiting(client, handle) for _ in range(3)]
    results[0].cancel()
    await log.write("Succeeded", result=1)
    assert await asyncio.gather(*results[1:]) == [1, 1]
    await asyncio.gather(*results, return_exceptions=True)
    assert not client._waiters
    assert len(client.transport._connection._subs) == 1


async def test_outcome_stored_while_the_connection_was_down_is_read_after_the_reconnect(
    own_nats_server: NatsServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "BACKSTOP", (3600.0, 3600.0))
    server, queue = own_nats_server, QueueConfig(namespace, "mill")
    await ensure_pool(server.url, queue)
    async with Client.connect(server.url, namespace=namespace) as client:
        result = await waiting(client, client.handle("mill", "t1"))
        server.kill9()
        await eventually(lambda: not client.transport.connected, what="the client noticed")
        # The event is stored by a server on another port, so that this client can hear of it only by reading.
        port, server.port = server.port, free_port()
        await asyncio.to_thread(server.start)
        async with connected(server.url) as connection:
            await TaskLog(connection, queue, "t1").write("Succeeded", result="after all")
        server.stop()
        server.port = port
        await asyncio.to_thread(server.start)
        assert await asyncio.wait_for(result, 60) == "after all"


async def test_status_and_events_tell_the_log(client: Client, log: TaskLog) -> None:
    handle = client.handle("mill", "t1")
    assert (await handle.status()).state == "Queued"
    await log.write("Running", worker="w1")
    running = await handle.status()
    assert (running.state, running.attempts, running.worker, running.finished) == ("Running", 1, "w1", False)
    await log.write("Backoff", worker="w1", error=TaskError(type="OSError"), reason="OSError")
    backoff = await handle.status()
    assert (backoff.state, backoff.attempts, backoff.reason) == ("Backoff", 1, "OSError")
    await log.write("Running", attempt=2, worker="w2")
    await log.write("Succeeded", attempt=2, worker="w2")
    events = await handle.events()
    assert [(e.state, e.attempt) for e in events] == [
        ("Running", 1),
        ("Backoff", 1),
        ("Running", 2),
        ("Succeeded", 2),
    ]
    assert [e.sequence for e in events] == sorted({e.sequence for e in events})
    done = await handle.status()
    assert (done.state, done.attempts, done.worker, done.finished) == ("Succeeded", 2, "w2", True)
