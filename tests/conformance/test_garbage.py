"""Whatever lies on the wire, a worker goes on: in its queue, its requests, its tasks' logs, limits and catalogues."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from millpond import Places, PoolLimits, RetryPolicy
from millpond.limiting import POOL
from millpond_api import subjects
from millpond_api.envelope import Envelope
from millpond_api.events import RpcAnswer, utc_now
from millpond_api.limits import Rate

from tests.support.bed import START, Bed
from tests.support.garbage import Garbage, asks, drains, garbage, throw

ONCE = RetryPolicy(max_attempts=1)
some = settings(
    max_examples=8,
    # Without shrinking: a failure names its message, and each try costs a queue.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


async def start(bed: Bed, **settings: Any) -> None:
    """A worker that repeats what it is told; the one that runs already, if it does."""
    if bed.workers:
        assert not bed.workers[0].task.done()
        return

    @bed.app.task("echo")
    async def echo(*values: Any, **named: Any) -> Any:
        return values[0] if values else named

    await bed.start_worker("w1", retry=ONCE, **settings)


@some
@given(batch=st.lists(garbage, min_size=10, max_size=40))
async def test_no_message_stops_a_worker_and_each_ends_once_with_a_reason(bed: Bed, batch: list[Garbage]) -> None:
    await start(bed)
    await throw(bed.client, bed.queue.pool, batch, bed.is_empty)


@some
@given(ask=asks().filter(lambda ask: not drains(*ask)))
async def test_every_request_is_answered_whatever_is_in_it(bed: Bed, ask: tuple[str, bytes]) -> None:
    await start(bed)
    subject = subjects.rpc(bed.queue.namespace, bed.queue.pool, "w1", ask[0])
    answer = RpcAnswer.model_validate_json((await bed.transport.request(subject, ask[1], timeout=START)).body)
    assert answer.ok == (ask[0] == "ping")
    assert await bed.call("echo", 1) == 1


@pytest.mark.parametrize(
    "junk",
    [b"junk", b"", b"[]", b'{"tat": NaN}', b'{"tat": -1, "count": -5}', b'{"holders": [{"task": "a b"}]}'],
    ids=str,
)
async def test_limits_whose_state_nobody_can_read_begin_anew(bed: Bed, junk: bytes) -> None:
    one = Rate(count=1000)
    await start(bed, limits=PoolLimits(rate=one, per_key=one, places=Places()))
    for kind, name in (("rate", POOL), ("rate", "key:r"), ("places", "key:k")):
        await bed.transport.publish_stored(subjects.limit(bed.queue.namespace, bed.queue.pool, kind, name), junk)
    task = await bed.submit("echo", 1, key="k", rate_key="r")
    assert await task.result(timeout=START) == 1
    await bed.is_empty()


@pytest.mark.parametrize("status", ["404", "204", "503"])
async def test_a_log_whose_messages_look_like_the_servers_words_is_read_to_its_end(bed: Bed, status: str) -> None:
    """Else the claim would be refused for ever, by a sequence that nobody sees."""
    await start(bed)
    log = subjects.task_events(bed.queue.namespace, bed.queue.pool, "odd")
    await bed.transport.publish_stored(log, b"", headers={"Status": status, "Description": "No Messages"})
    task = await bed.submit("echo", 1, task_id="odd")
    assert await task.result(timeout=START) == 1
    await bed.is_empty()


async def test_a_catalogue_that_nobody_can_read_hides_no_other(bed: Bed) -> None:
    await start(bed)
    odd = b'{"at": "2999-01-01T00:00:00Z", "handlers": [{"name": "echo", "parameters": [{"name": "1 x"}]}]}'
    for number, body in enumerate((b"junk", odd, b'{"at": "2999-01-01T00:00:00", "handlers": []}')):
        await bed.transport.publish_stored(subjects.catalogue(bed.queue.namespace, bed.queue.pool, f"x{number}"), body)
    await bed.start_worker("w2")
    client = await bed.open_client("another")
    assert "echo" in await client.handlers(bed.queue.pool)
    assert await (await client.submit(bed.queue.pool, "echo", [1])).result(timeout=START) == 1


@pytest.mark.parametrize(("field", "lack"), [("codec", "rot13"), ("codec", "zstd"), ("zip", "gzip"), ("zip", "json")])
async def test_what_a_newer_worker_may_be_able_to_read_is_held_and_named(bed: Bed, field: str, lack: str) -> None:
    await start(bed)
    envelope = Envelope(id="later", handler="echo", enqueued=utc_now()).model_copy(update={field: lack})
    headers = {subjects.HEADER_ENVELOPE: envelope.encode().decode()}
    await bed.transport.publish_stored(
        subjects.tasks(bed.queue.namespace, bed.queue.pool, "default"), b"?", headers=headers
    )

    async def named() -> bool:
        return (await bed.next_beat("w1")).missing == {f"codec:{lack}": 1}

    await bed.until(named, "the beat that names it")
    assert await bed.call("echo", 1) == 1
    assert await bed.log("later") == []
    await bed.holds(1)
