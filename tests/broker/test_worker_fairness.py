"""Fairness at size on the real server, and what the server does with a lane's consumer."""

import asyncio
from typing import Any

from millpond.transport import Message
from millpond_api import broker, subjects
from millpond_api.broker import NANOSECONDS, QueueConfig

from tests.support.bed import Bed, open_bed
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.support.nats_ground import NatsGround

HEAVY, LIGHT = 10_000, 10


async def fill(bed: Bed, who: str, count: int) -> None:
    await bed.client.submit_many("mill", "note", [[who]] * count, fair=who)


async def test_ten_tasks_behind_ten_thousand_end_within_their_share(nats_server: NatsServer, namespace: str) -> None:
    """Every second start is the light key's: 20 starts, and a few for what four workers decide side by side."""
    starts: list[str] = []
    async with open_bed(NatsGround(nats_server), QueueConfig(namespace, "mill", lanes=128)) as bed:

        @bed.app.task("note")
        async def note(who: str) -> None:
            starts.append(who)

        await fill(bed, "heavy", HEAVY)
        for number in range(4):
            await bed.start_worker(f"w{number}", concurrency=2)
        await fill(bed, "light", LIGHT)
        await bed.until(lambda: starts.count("light") == LIGHT, "the light key served")
        places = [place for place, who in enumerate(starts) if who == "light"]
    assert places[-1] - places[0] < 2 * LIGHT + 4 * 2 * 2, places
    assert len(starts) < HEAVY // 2


async def test_a_lane_with_a_task_in_flight_outlives_its_idle_time(nats_server: NatsServer, namespace: str) -> None:
    """Else a task that runs for an hour in a pool whose slots are all taken would be given to a second worker."""
    queue = QueueConfig(namespace, "mill", lease=1.0, lanes=4)
    async with open_bed(NatsGround(nats_server), queue) as bed:
        stream, name = subjects.pool_stream(namespace, "mill"), subjects.consumer("default", "1")
        shape = broker.lane_consumer(queue, "default", "1") | {"inactive_threshold": NANOSECONDS}
        await bed.transport.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": shape})
        await bed.transport.publish_stored(subjects.tasks(namespace, "mill", "default", "1"), b"")
        arrived: list[Message] = []

        async def take(message: Message) -> None:
            arrived.append(message)

        inbox = bed.transport.new_inbox()
        await bed.transport.subscribe(inbox, take)
        await bed.transport.send(
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", b'{"batch":1,"no_wait":true}', reply=inbox
        )
        await eventually(lambda: bool(arrived), 30.0, "the message")

        async def info() -> Any:
            return await bed.transport.api(f"CONSUMER.INFO.{stream}.{name}")

        loop = asyncio.get_running_loop()
        until = loop.time() + 4.0

        async def kept_alive() -> bool:
            await bed.transport.send(arrived[0].reply, b"+WPI")
            assert (await info())["num_ack_pending"] == 1
            return loop.time() > until

        await eventually(kept_alive, 60.0, "four idle times with the task in flight")
