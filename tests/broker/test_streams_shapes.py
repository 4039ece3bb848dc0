"""The contract's stream and consumer shapes against a real server: it takes them, and they do what the design says."""

from datetime import UTC, datetime, timedelta

import pytest
from millpond_api import broker, subjects
from millpond_api.broker import QueueConfig
from nats.aio.client import Client as Connection
from nats.js.errors import APIError

from tests.support.eventually import eventually
from tests.support.nats import NatsServer, api, connected, ensure_pool, ensure_shared_streams, jetstream


async def test_server_stores_every_field_of_the_shapes(nats_server: NatsServer, pool: QueueConfig) -> None:
    async with connected(nats_server.url) as connection:
        for wanted in (broker.events_stream(), broker.delayed_stream(), broker.dead_stream(), broker.pool_stream(pool)):
            stored = (await api(connection, f"STREAM.INFO.{wanted['name']}"))["config"]
            for field, value in wanted.items():
                if value not in (0, {}):
                    assert_holds(stored.get(field), value, f"{wanted['name']}.{field}")
        stream = subjects.pool_stream(pool.namespace, pool.pool)
        stored = (await api(connection, f"CONSUMER.INFO.{stream}.{subjects.consumer('default')}"))["config"]
        for field, value in broker.class_consumer(pool, "default").items():
            assert_holds(stored.get(field), value, field)


def assert_holds(stored: object, wanted: object, where: str) -> None:
    """`stored` has everything of `wanted`; the server may add fields of its own (metadata, external…)."""
    if isinstance(wanted, dict):
        assert isinstance(stored, dict), where
        for key, value in wanted.items():
            assert_holds(stored.get(key), value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert isinstance(stored, list), where
        assert len(stored) == len(wanted), where
        for index, value in enumerate(wanted):
            assert_holds(stored[index], value, f"{where}[{index}]")
    else:
        assert stored == wanted, where


async def test_applying_a_pool_twice_changes_nothing(nats_server: NatsServer, pool: QueueConfig) -> None:
    await ensure_pool(nats_server.url, pool)
    async with connected(nats_server.url) as connection:
        names = (await api(connection, f"CONSUMER.NAMES.{subjects.pool_stream(pool.namespace, pool.pool)}"))[
            "consumers"
        ]
    assert names == [subjects.consumer("default")]


async def test_full_queue_refuses_and_keeps_what_it_has(nats_server: NatsServer, namespace: str) -> None:
    queue = QueueConfig(namespace, "small", max_depth=2)
    await ensure_pool(nats_server.url, queue)
    async with connected(nats_server.url) as connection:
        js = jetstream(connection)
        subject = subjects.tasks(namespace, "small", "default")
        await js.publish(subject, b"1")
        await js.publish(subject, b"2")
        with pytest.raises(APIError, match="maximum messages exceeded"):
            await js.publish(subject, b"3")
        state = (await api(connection, f"STREAM.INFO.{subjects.pool_stream(namespace, 'small')}"))["state"]
    assert (state["first_seq"], state["last_seq"]) == (1, 2)


async def test_second_submission_of_a_task_id_is_dropped_by_the_server(
    nats_server: NatsServer, pool: QueueConfig
) -> None:
    async with connected(nats_server.url) as connection:
        js = jetstream(connection)
        subject = subjects.tasks(pool.namespace, pool.pool, "default")
        first = await js.publish(subject, b"", headers={subjects.HEADER_MSG_ID: "t1"})
        second = await js.publish(subject, b"", headers={subjects.HEADER_MSG_ID: "t1"})
    assert (first.seq, second.seq, second.duplicate) == (1, 1, True)


async def test_stored_task_wakes_listeners_with_headers_alone(nats_server: NatsServer, pool: QueueConfig) -> None:
    async with connected(nats_server.url) as connection:
        wake = await connection.subscribe(subjects.wake_all(pool.namespace, pool.pool))
        await connection.flush()
        await jetstream(connection).publish(subjects.tasks(pool.namespace, pool.pool, "default"), b"payload")
        heard = await wake.next_msg(timeout=30)
    assert heard.subject == f"mp.wake.{pool.namespace}.{pool.pool}.default"
    assert heard.data == b""


async def test_refused_event_never_reaches_the_feed(nats_server: NatsServer, pool: QueueConfig) -> None:
    """A fenced worker's publish is refused; the feed tells only what became true."""
    subject = subjects.task_events(pool.namespace, pool.pool, "t1")
    async with connected(nats_server.url) as connection:
        feed = await connection.subscribe(subjects.feed(subject))
        await connection.flush()
        js = jetstream(connection)
        expect = subjects.HEADER_EXPECTED_SEQUENCE
        await js.publish(subject, b"claim", headers={expect: "0"})
        with pytest.raises(APIError, match="wrong last sequence"):
            await js.publish(subject, b"zombie", headers={expect: "0"})
        await js.publish(subject, b"after")
        heard = [(await feed.next_msg(timeout=30)).data for _ in range(2)]
    assert heard == [b"claim", b"after"]


async def test_events_keep_the_newest_of_each_subject(nats_server: NatsServer, pool: QueueConfig) -> None:
    subject = subjects.task_events(pool.namespace, pool.pool, "t1")
    async with connected(nats_server.url) as connection:
        js = jetstream(connection)
        for number in range(subjects.EVENTS_PER_TASK + 5):
            await js.publish(subject, str(number).encode())
        info = await api(connection, f"STREAM.INFO.{subjects.STREAM_EVENTS}", {"subjects_filter": subject})
        last = await js.get_last_msg(subjects.STREAM_EVENTS, subject, direct=True)
    assert info["state"]["subjects"] == {subject: subjects.EVENTS_PER_TASK}
    assert last.data == str(subjects.EVENTS_PER_TASK + 4).encode()


async def schedule(connection: Connection, queue: QueueConfig, task: str, after: float) -> None:
    due = datetime.now(UTC) + timedelta(seconds=after)
    headers = {
        subjects.HEADER_SCHEDULE: f"@at {due.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}",
        subjects.HEADER_SCHEDULE_TARGET: subjects.due(queue.namespace, queue.pool, "default"),
        subjects.HEADER_ENVELOPE: f'{{"id":"{task}"}}',
    }
    later = subjects.later(queue.namespace, queue.pool, task)
    await jetstream(connection).publish(later, task.encode(), headers=headers)


async def test_due_task_reaches_its_pool_and_wakes_it_without_a_process_of_ours(
    nats_server: NatsServer, pool: QueueConfig
) -> None:
    async with connected(nats_server.url) as connection:
        wake = await connection.subscribe(subjects.wake_all(pool.namespace, pool.pool))
        await connection.flush()
        await schedule(connection, pool, f"{pool.namespace}-due", 0.5)
        heard = await wake.next_msg(timeout=60)
        stream = subjects.pool_stream(pool.namespace, pool.pool)
        stored = await jetstream(connection).get_msg(stream, 1)
    assert heard.subject == f"mp.wake.{pool.namespace}.{pool.pool}.default"
    assert stored.subject == subjects.tasks(pool.namespace, pool.pool, "default")
    assert stored.headers is not None
    assert stored.headers[subjects.HEADER_ENVELOPE] == f'{{"id":"{pool.namespace}-due"}}'


async def test_due_tasks_respect_the_bound_and_none_is_lost(nats_server: NatsServer, namespace: str) -> None:
    """A full queue stalls the source; each ack lets the next due task in."""
    queue = QueueConfig(namespace, "tight", max_depth=2)
    await ensure_pool(nats_server.url, queue)
    stream = subjects.pool_stream(namespace, "tight")
    tasks = {f"{namespace}-{number}" for number in range(5)}
    async with connected(nats_server.url) as connection:
        for task in tasks:
            await schedule(connection, queue, task, 0.3)
        seen: set[str] = set()
        puller = await jetstream(connection).pull_subscribe_bind(subjects.consumer("default"), stream)

        async def depth() -> int:
            return int((await api(connection, f"STREAM.INFO.{stream}"))["state"]["messages"])

        async def full() -> bool:
            return await depth() == queue.max_depth

        await eventually(full, 60, "the queue filled by due tasks")
        while seen != tasks:
            for message in await puller.fetch(1, timeout=60):
                assert await depth() <= queue.max_depth
                seen.add(message.data.decode())
                await message.ack_sync(timeout=30)


async def test_delays_survive_a_killed_server(own_nats_server: NatsServer, namespace: str) -> None:
    """A schedule is a stored message: after SIGKILL the restarted server still delivers it."""
    queue = QueueConfig(namespace, "mill")
    await ensure_pool(own_nats_server.url, queue)
    async with connected(own_nats_server.url) as connection:
        await schedule(connection, queue, "survivor", 2.0)
    own_nats_server.kill9()
    own_nats_server.start()
    async with connected(own_nats_server.url) as connection:
        stream = subjects.pool_stream(namespace, "mill")
        puller = await jetstream(connection).pull_subscribe_bind(subjects.consumer("default"), stream)
        [message] = await puller.fetch(1, timeout=60)
    assert message.data == b"survivor"


async def test_stored_tasks_survive_a_killed_server(own_nats_server: NatsServer, namespace: str) -> None:
    queue = QueueConfig(namespace, "mill")
    await ensure_pool(own_nats_server.url, queue)
    async with connected(own_nats_server.url) as connection:
        for number in range(50):
            await jetstream(connection).publish(subjects.tasks(namespace, "mill", "default"), str(number).encode())
        own_nats_server.kill9()
        own_nats_server.start()
    async with connected(own_nats_server.url) as connection:
        await ensure_shared_streams(connection)
        info = await api(connection, f"STREAM.INFO.{subjects.pool_stream(namespace, 'mill')}")
    assert info["state"]["messages"] == 50
