"""Scaling records are read back from a real stream: all of a pool's and no other's, by time, in order, in pages."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
from millpond.transport import PAGE, Publish, Transport, Unconfirmed
from millpond_api import subjects
from millpond_cli.errors import CliError
from millpond_cli.forwarding import listening
from millpond_scaling import Memory, Observation, Policy, decide
from millpond_scaling.records import Record, again, decode, encode

from tests.support.nats import NatsServer, connected, ensure_shared_streams


def record(second: int, pool: str = "mill") -> Record:
    seen = Observation(second, 0, 0, wall=float(second))
    decision = decide(seen, Policy(max_workers=1000), Memory(), float(second))
    at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).isoformat()
    return Record(at, float(second), Policy(max_workers=1000), seen, Memory(), decision, True, "ns", pool)


async def publish(transport: Transport, namespace: str, records: list[Record]) -> None:
    for one in records:
        await transport.publish_stored(subjects.ledger(namespace, one.pool), encode(one), options=Publish())


@pytest.fixture
async def transport(nats_server: NatsServer):  # type: ignore[no-untyped-def]
    async with connected(nats_server.url) as connection:
        await ensure_shared_streams(connection)
    transport = await Transport.connect(nats_server.url, "test", timeout=10)
    yield transport
    await transport.close()


async def read(transport: Transport, namespace: str, since: datetime | None = None) -> list[Record]:
    subject = subjects.ledger(namespace, "mill")
    return [decode(stored.body) async for stored in transport.read_range(subjects.STREAM_LEDGER, subject, since)]


async def test_more_records_than_a_page_come_back_in_order_and_decide_the_same(
    transport: Transport, namespace: str
) -> None:
    sent = [record(second) for second in range(PAGE + 44)]
    await publish(transport, namespace, [record(7, "other"), *sent, record(9, "other")])
    found = await read(transport, namespace)
    assert found == sent
    assert [again(one) for one in found] == [None] * len(sent)


async def test_a_range_begins_at_its_time_and_the_last_before_a_time_is_found(
    transport: Transport, namespace: str
) -> None:
    await publish(transport, namespace, [record(1), record(2)])
    middle = datetime.now(UTC)
    await publish(transport, namespace, [record(3), record(4), record(5, "other")])
    assert await read(transport, namespace, middle) == [record(3), record(4)]
    subject = subjects.ledger(namespace, "mill")
    last = await transport.read_last_until(subjects.STREAM_LEDGER, subject, middle)
    assert last is not None
    assert decode(last.body) == record(2)
    before = await transport.read_last_until(subjects.STREAM_LEDGER, subject, middle - timedelta(days=1))
    assert before is None


async def test_a_pool_without_records_has_an_empty_ledger(transport: Transport, namespace: str) -> None:
    assert await read(transport, namespace) == []


async def test_the_ledger_is_read_through_a_forwarded_port(nats_server: NatsServer, namespace: str) -> None:
    """The two pumps carry pages of records; a far end that cannot be opened ends the connection, not the command."""
    with listening(lambda: socket.create_connection(("127.0.0.1", nats_server.port))) as port:
        transport = await Transport.connect(f"nats://127.0.0.1:{port}", "test", timeout=10)
        try:
            async with connected(nats_server.url) as connection:
                await ensure_shared_streams(connection)
            sent = [record(second) for second in range(2 * PAGE)]
            await publish(transport, namespace, sent)
            assert await read(transport, namespace) == sent
        finally:
            await transport.close()

    def refuse() -> socket.socket:
        raise CliError("pods/portforward is not allowed")

    with listening(refuse) as port, pytest.raises(Unconfirmed):
        await Transport.connect(f"nats://127.0.0.1:{port}", "test", timeout=1)
