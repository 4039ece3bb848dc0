"""Submission: stored once under its id, refused with a sentence, safe to repeat, and it survives the server's death."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from millpond.client import Client
from millpond.errors import (
    ArgumentsNotSerializable,
    ArgumentsTooLarge,
    NotConnected,
    PoolNotFound,
    PriorityNotFound,
    QueueFull,
)
from millpond.packing import Habits
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.envelope import Envelope, parse_envelope, parse_payload
from millpond_api.retry import RetryPolicy
from nats.aio.client import Client as Connection

from tests.support.nats import NatsServer, api, connected, ensure_pool, jetstream, queue_depth


@pytest.fixture
async def client(nats_server: NatsServer, pool: QueueConfig) -> AsyncIterator[Client]:
    async with Client.connect(nats_server.url, namespace=pool.namespace) as client:
        yield client


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connected(nats_server.url) as connection:
        yield connection


async def take(connection: Connection, queue: QueueConfig, task_class: str = "default") -> tuple[Envelope, Any]:
    """The next task of the queue as a worker reads it: envelope and payload."""
    stream = subjects.pool_stream(queue.namespace, queue.pool)
    puller = await jetstream(connection).pull_subscribe_bind(subjects.consumer(task_class), stream)
    [message] = await puller.fetch(1, timeout=60)
    assert message.headers is not None
    await message.ack_sync(timeout=30)
    return parse_envelope(message.headers[subjects.HEADER_ENVELOPE]), parse_payload(message.data)


async def test_submitted_task_arrives_as_it_was_said(client: Client, connection: Connection, pool: QueueConfig) -> None:
    deadline = datetime.now(UTC) + timedelta(hours=1)
    retry = RetryPolicy(max_attempts=7)
    handle = await client.submit(
        "mill", "census.parse", [1, None, "ä"], {"deep": {"x": [None]}}, deadline=deadline, retry=retry
    )
    envelope, payload = await take(connection, pool)
    assert (envelope.id, envelope.handler, envelope.attempt) == (handle.id, "census.parse", 1)
    assert (envelope.deadline, envelope.retry) == (deadline, retry)
    assert (payload.args, payload.kwargs) == ([1, None, "ä"], {"deep": {"x": [None]}})


async def test_same_task_id_is_stored_once(client: Client, nats_server: NatsServer, pool: QueueConfig) -> None:
    first = await client.submit("mill", "noop", task_id="once")
    second = await client.submit("mill", "noop", task_id="once")
    assert (first.id, second.id) == ("once", "once")
    assert await queue_depth(nats_server.url, pool.namespace, "mill") == 1


async def test_priority_goes_to_the_consumer_of_its_class(nats_server: NatsServer, namespace: str) -> None:
    queue = QueueConfig(namespace, "mill", classes=("default", "urgent"))
    await ensure_pool(nats_server.url, queue)
    async with Client.connect(nats_server.url, namespace=namespace) as client, connected(nats_server.url) as connection:
        handle = await client.submit("mill", "noop", priority="urgent")
        envelope, _ = await take(connection, queue, "urgent")
    assert (envelope.id, envelope.task_class) == (handle.id, "urgent")


async def test_unknown_class_is_refused_instead_of_waiting_for_nobody(client: Client, nats_server: NatsServer) -> None:
    """The stream takes any class; without a consumer for it the task would never be delivered."""
    with pytest.raises(PriorityNotFound, match=r"no class 'urgent'.*spec\.queue\.classes"):
        await client.submit("mill", "noop", priority="urgent")
    assert await queue_depth(nats_server.url, client.namespace, "mill") == 0


@pytest.mark.parametrize("delay", [None, 60], ids=["now", "later"])
async def test_unknown_pool_is_refused_by_name(client: Client, delay: float | None) -> None:
    with pytest.raises(PoolNotFound, match=r"has no pool nowhere: create the WorkerPool"):
        await client.submit("nowhere", "noop", delay=delay)


async def test_pool_deleted_meanwhile_is_refused_by_name(client: Client, connection: Connection) -> None:
    await client.submit("mill", "noop")
    await api(connection, f"STREAM.DELETE.{subjects.pool_stream(client.namespace, 'mill')}")
    with pytest.raises(PoolNotFound, match="has no pool mill"):
        await client.submit("mill", "noop")


async def test_full_queue_refuses_and_takes_again_after_an_ack(nats_server: NatsServer, namespace: str) -> None:
    queue = QueueConfig(namespace, "mill", max_depth=2)
    await ensure_pool(nats_server.url, queue)
    async with Client.connect(nats_server.url, namespace=namespace) as client, connected(nats_server.url) as connection:
        for _ in range(2):
            await client.submit("mill", "noop")
        with pytest.raises(QueueFull, match=r"pool mill is full.*maxDepth"):
            await client.submit("mill", "noop", task_id="third")
        await take(connection, queue)
        assert (await client.submit("mill", "noop", task_id="third")).id == "third"
    assert await queue_depth(nats_server.url, namespace, "mill") == 2


async def test_many_are_stored_in_full_and_in_order(client: Client, connection: Connection, pool: QueueConfig) -> None:
    handles = await client.submit_many("mill", "noop", ([number] for number in range(1200)))
    assert len({handle.id for handle in handles}) == 1200
    stream = subjects.pool_stream(pool.namespace, pool.pool)
    js = jetstream(connection)
    for sequence in (1, 600, 1200):
        message = await js.get_msg(stream, sequence)
        assert message.headers is not None
        assert message.data is not None
        assert parse_envelope(message.headers[subjects.HEADER_ENVELOPE]).id == handles[sequence - 1].id
        assert json.loads(message.data)["args"] == [sequence - 1]


async def test_delayed_task_waits_and_then_arrives_once(
    client: Client, connection: Connection, pool: QueueConfig
) -> None:
    begun = datetime.now(UTC)
    handle = await client.submit("mill", "noop", ["x"], delay=1.0)
    await client.submit("mill", "noop", ["x"], delay=1.0, task_id=handle.id)
    # Of another one, which is not due by the time when the question arrives.
    status = await (await client.submit("mill", "noop", delay=3600)).status()
    assert status.state == "Scheduled"
    assert status.next_at is not None
    envelope, payload = await take(connection, pool)
    assert datetime.now(UTC) - begun >= timedelta(seconds=1)
    assert (envelope.id, payload.args) == (handle.id, ["x"])
    info = await api(connection, f"STREAM.INFO.{subjects.pool_stream(pool.namespace, pool.pool)}")
    assert info["state"]["last_seq"] == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([object()], "no form in JSON"),
        ([{1, 2}], "set"),
        ([float("nan")], "no form in JSON"),
        ("text", "a list or tuple"),
    ],
    ids=["object", "set", "nan", "bare-text"],
)
async def test_arguments_without_a_form_are_refused_before_anything_is_sent(
    client: Client, args: Any, says: str
) -> None:
    with pytest.raises(ArgumentsNotSerializable, match=says):
        await client.submit("mill", "noop", args)


async def test_two_megabytes_are_refused_with_the_limit(client: Client, nats_server: NatsServer) -> None:
    client.habits = Habits()  # uncompressed
    with pytest.raises(ArgumentsTooLarge, match=r"2,097,.* bytes and a task carries at most 786,432"):
        await client.submit("mill", "noop", ["x" * 2 * 1024 * 1024])
    assert await queue_depth(nats_server.url, client.namespace, "mill") == 0


async def test_largest_allowed_arguments_are_stored(client: Client, connection: Connection, pool: QueueConfig) -> None:
    text = "x" * (768 * 1024 - len('{"args":[""],"kwargs":{}}'))
    client.habits = Habits()  # uncompressed
    await client.submit("mill", "noop", [text])
    _, payload = await take(connection, pool)
    assert payload.args == [text]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task_id": "a.b"}, "task id"),
        ({"priority": "*"}, "priority"),
        ({"delay": -1}, "0 seconds or more"),
        ({"deadline": datetime(2100, 1, 1)}, "no time zone"),  # noqa: DTZ001
        ({"deadline": timedelta(seconds=1), "delay": 2}, "could never run"),
    ],
    ids=["id", "class", "past", "naive", "deadline-before-start"],
)
async def test_what_cannot_be_is_refused_by_name(client: Client, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        await client.submit("mill", "noop", **options)


@pytest.mark.parametrize("bad", ["a.b", "*", "a b"])
async def test_pool_name_cannot_address_another_pool(client: Client, bad: str) -> None:
    with pytest.raises(ValueError, match="pool"):
        await client.submit(bad, "noop")
    with pytest.raises(ValueError, match="pool"):
        client.handle(bad, "t")


async def test_no_server_is_an_error_within_the_given_time() -> None:
    with pytest.raises(NotConnected, match="check the URL"):
        async with Client.connect("nats://127.0.0.1:1", namespace="ns", timeout=0.5):
            pass


async def test_closed_client_says_so(nats_server: NatsServer, pool: QueueConfig) -> None:
    async with Client.connect(nats_server.url, namespace=pool.namespace) as client:
        handle = client.handle("mill", "t")
    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: client.submit("mill", "noop"),
        lambda: handle.result(5),
        handle.status,
        handle.cancel,
    ]
    for use in uses:
        with pytest.raises(NotConnected, match="client is closed"):
            await use()


async def test_server_killed_while_submitting_stores_each_task_once(
    own_nats_server: NatsServer, namespace: str
) -> None:
    """Submissions without an answer are sent again under their ids; none is lost and none is stored twice."""
    await ensure_pool(own_nats_server.url, QueueConfig(namespace, "mill"))
    count = 3000
    async with Client.connect(own_nats_server.url, namespace=namespace) as client:
        submitting = asyncio.ensure_future(client.submit_many("mill", "noop", ([n] for n in range(count))))
        # Mostly in the middle; where all were stored by the time of a look, the kill must lose none of them.
        while await queue_depth(own_nats_server.url, namespace, "mill") < count // 10:
            pass
        own_nats_server.kill9()
        await asyncio.to_thread(own_nats_server.start)
        handles = await submitting
    assert len(handles) == count
    assert await queue_depth(own_nats_server.url, namespace, "mill") == count
