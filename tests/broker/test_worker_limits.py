"""Limits under kills: a place and a rate outlive the worker that used them, and the server that keeps them."""

from itertools import pairwise

from millpond import Places, PoolLimits, TaskHandle, gather
from millpond_api import subjects
from millpond_api.limits import MAKE_UP, Rate

from tests.support.eventually import eventually
from tests.support.workers import START, Mill

ONE_AT_A_TIME = PoolLimits(places=Places()).encode().decode()
RATE, BURST = 10, 2
AT_A_RATE = PoolLimits(rate=Rate(count=RATE, burst=BURST)).encode().decode()


async def claim_times(mill: Mill, tasks: list[TaskHandle]) -> list[float]:
    """When the server stored each claim: the one clock that all share."""
    found = []
    for task in tasks:
        log = subjects.task_events(mill.queue.namespace, mill.queue.pool, task.id)
        stored = await mill.client.transport.read_log(subjects.STREAM_EVENTS, log)
        found += [one.stored for one in stored if b'"Running"' in one.body]
    return sorted(found)


async def ran_alone(mill: Mill, tasks: list[TaskHandle]) -> bool:
    """Whether no task was claimed between the first claim of another one and its end."""
    spans = []
    for task in tasks:
        events = await mill.log_of(task.id)
        first = next(event.sequence for event in events if event.state == "Running")
        spans.append((first, events[-1].sequence))
    return all(end < begin for (_, end), (begin, _) in pairwise(sorted(spans)))


async def test_sigkill_of_a_places_holder_frees_it_within_the_lease_and_the_line_goes_on(mill: Mill) -> None:
    first = await mill.start("w1", limits=ONE_AT_A_TIME, concurrency=4)
    gate, pool = mill.gate("g"), mill.queue.pool
    tasks = [await mill.client.submit(pool, "gate", [gate.path], key="k")]
    await gate.entered()
    tasks += [await mill.client.submit(pool, "gate", [gate.path], key="k") for _ in range(3)]
    for waiting in tasks[1:]:
        # Out of the queue, in the line; or the holder's end would find them on their way.
        await eventually(lambda waiting=waiting: is_parked(mill, waiting), START, "a task in the line")  # type: ignore[misc]
    first.kill()
    await mill.start("w2", limits=ONE_AT_A_TIME, concurrency=4)
    await gate.entered(2)
    gate.open()
    assert len(await gather(*tasks, timeout=START)) == 4
    # Its own redelivery had the place already, and nobody ran beside it.
    assert await mill.story(tasks[0].id) == ["Running(1)@w1", "Running(1)@w2", "Succeeded(1)@w2"]
    assert await ran_alone(mill, tasks)
    await mill.is_empty()


async def is_parked(mill: Mill, task: TaskHandle) -> bool:
    events = await mill.log_of(task.id)
    return bool(events) and events[-1].reason == "ConcurrencyLimit"


async def test_nats_killed_while_a_line_waits_keeps_the_line_and_the_limit(own_mill: Mill) -> None:
    for name in ("w1", "w2"):
        await own_mill.start(name, limits=ONE_AT_A_TIME, concurrency=4)
    gate, pool = own_mill.gate("g"), own_mill.queue.pool
    tasks = [await own_mill.client.submit(pool, "gate", [gate.path], key="k")]
    await gate.entered()
    tasks += [await own_mill.client.submit(pool, "double", [n], key="k") for n in range(10)]
    await eventually(lambda: is_parked(own_mill, tasks[-1]), START, "the last task in the line")
    own_mill.server.kill9()
    gate.open()
    own_mill.server.start()
    assert (await gather(*tasks, timeout=2 * START))[1:] == [2 * n for n in range(10)]
    assert await ran_alone(own_mill, tasks)
    await own_mill.is_empty()


async def test_kills_of_a_worker_and_of_nats_amid_a_rate_exceed_no_bound_and_lose_nothing(
    own_mill: Mill,
) -> None:
    victim = await own_mill.start("w1", limits=AT_A_RATE, concurrency=4)
    await own_mill.start("w2", limits=AT_A_RATE, concurrency=4)
    began = await own_mill.client.transport.read_clock(subjects.STREAM_LIMITS)
    tasks = await own_mill.client.submit_many(own_mill.queue.pool, "double", [[n] for n in range(60)])
    await tasks[10].result(timeout=START)
    victim.kill()
    await tasks[25].result(timeout=2 * START)
    own_mill.server.kill9()
    own_mill.server.start()
    assert await gather(*tasks, timeout=2 * START) == [2 * n for n in range(60)]
    # No start was before its task came, and a claim is stored after its start: so much may be within that time.
    times = await claim_times(own_mill, tasks)
    assert len(times) <= (times[-1] - began) * RATE + BURST + MAKE_UP * RATE
    await own_mill.is_empty()
