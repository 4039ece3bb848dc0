"""A worker process on a real server, fed with what is no task: it lives, and each piece ends once and with a reason."""

import asyncio
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from millpond import TaskFailed
from millpond_api import subjects

from tests.support.garbage import Garbage, garbage, throw
from tests.support.nats import NatsServer
from tests.support.workers import START, Mill

ENVELOPE = b'{"id":"%b","handler":"echo","enqueued":"2026-01-01T00:00:00Z"}'
ONCE = '{"max_attempts": 1}'


@settings(
    max_examples=5,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(batch=st.lists(garbage, min_size=10, max_size=40))
async def test_no_message_ends_a_worker_process(mill: Mill, batch: list[Garbage]) -> None:
    if not mill.workers:
        await mill.start("w1", concurrency=4, retry=ONCE)
    await throw(mill.client, mill.queue.pool, batch, mill.is_empty)
    assert mill.workers[0].process.poll() is None


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0\r\nMp-Envelope: \xff\xfe{\r\n\r\n",
        b"NATS/1.0\r\n::::\r\n: x\r\nx\r\n\r\n",
        b"NATS/1.0\r\nMp-Envelope: {}",
        b"\x00\x01\x02",
        b"NATS/1.0\r\nMp-Envelope: " + ENVELOPE % (b"y" * 60_000) + b"\r\n\r\n",
        b"NATS/1.0\r\nMp-Envelope: " + ENVELOPE % b"twice" + b"\r\nMp-Envelope: {}\r\n\r\n",
    ],
    ids=["status line", "no utf-8", "colons", "no end", "no headers", "endless id", "two envelopes"],
)
async def test_headers_as_no_client_writes_them_end_as_a_dead_letter(mill: Mill, block: bytes) -> None:
    await mill.start("w1")
    await publish_raw(mill.server, subjects.tasks(mill.queue.namespace, mill.queue.pool, "default"), block)
    await mill.is_empty()
    letters = [letter async for letter in mill.client.dead(mill.queue.pool).list()]
    assert len(letters) == 1
    assert re.search("Mp-Envelope", letters[0].error.message)
    echo = await mill.client.submit(mill.queue.pool, "echo", [1])
    assert await echo.result(timeout=START) == 1


async def test_an_error_that_grows_in_json_still_becomes_a_dead_letter(mill: Mill) -> None:
    """Control characters are six bytes each there: both would be more than the server stores of headers."""
    await mill.start("w1", retry=ONCE)
    task = await mill.client.submit(mill.queue.pool, "shout", ["\x01" * 20_000])
    with pytest.raises(TaskFailed):
        await task.result(timeout=START)
    await mill.dead_letter(task.id)
    await mill.is_empty()


async def test_a_letter_that_was_cut_is_not_put_back(mill: Mill) -> None:
    await mill.start("w1")
    headers = {subjects.HEADER_ENVELOPE: (ENVELOPE % b"large").decode()}
    subject, client = subjects.tasks(mill.queue.namespace, mill.queue.pool, "default"), mill.client
    await client.transport.publish_stored(subject, b"x" * (1024 * 1024 - 300), headers=headers)
    await mill.is_empty()
    [redriven] = await client.dead(mill.queue.pool).redrive()
    assert redriven.done == "refused"
    assert "too large to be kept" in redriven.why
    assert len(redriven.letter.stored.body) > 900_000


async def publish_raw(server: NatsServer, subject: str, block: bytes) -> None:
    """A message whose headers are these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(b"HPUB %b %d %d\r\n%b\r\nPING\r\n" % (subject.encode(), len(block), len(block), block))
    await asyncio.wait_for(reader.readuntil(b"PONG"), START)
    writer.close()
