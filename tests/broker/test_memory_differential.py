"""The in-memory broker answers like a real nats-server: random scripts on both give the same answers, word by word."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from millpond.testing.broker.link import MemoryLink, Party
from millpond.testing.broker.server import Broker

from tests.support.differential import (
    PATIENCE,
    Answer,
    Player,
    answer_delivery,
    api,
    publish,
    publish_batch,
    pull,
    read,
)
from tests.support.eventually import eventually
from tests.support.nats import NatsServer

_NUMBERS = itertools.count(1)
SECOND = 1_000_000_000

STREAMS: tuple[dict[str, Any], ...] = (
    {
        "name": "%_D", "subjects": ["%.later.*", "%.due.>"], "allow_msg_schedules": True, "allow_msg_ttl": True,
        "allow_direct": True,
    },
    {
        "name": "%_W", "subjects": ["%.w.>"], "retention": "workqueue", "discard": "new", "max_msgs": 5,
        "allow_direct": True, "allow_atomic": True, "duplicate_window": 120 * SECOND,
    },
    {
        "name": "%_S", "subjects": ["%.s.>"], "retention": "workqueue", "discard": "new", "max_msgs": 5,
        "sources": [{"name": "%_D", "subject_transforms": [{"src": "%.due.>", "dest": "%.s.>"}]}],
    },
    {"name": "%_L", "subjects": ["%.l.>"], "max_msgs_per_subject": 3, "allow_direct": True, "allow_msg_ttl": True},
)  # fmt: skip
"""The kinds that Millpond has: schedules, a bounded work queue, a log by subject."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = NatsServer().start()
    yield server.url
    server.remove()


async def play(player: Player, script: list[tuple[Any, ...]]) -> list[list[Answer]]:
    """The answers to each step, on streams made for it."""
    await player.start()
    for config in STREAMS:
        own = {name: _own(value, player.prefix) for name, value in config.items()}
        await api(player, f"STREAM.CREATE.{own['name']}", own)
    for stream, name in (("W", "a"), ("W", "b"), ("S", "a"), ("S", "b")):
        # Of one consumer the leases run out, of the others in no run.
        wait = 1 if (stream, name) == ("S", "b") else 600
        config = {"durable_name": name, "ack_policy": "explicit", "ack_wait": wait * SECOND}
        config["filter_subject"] = f"%.{stream.lower()}.{name}"
        ask = {"stream_name": f"%_{stream}", "config": config}
        await player.ask(f"$JS.API.CONSUMER.CREATE.%_{stream}.{name}", _json(ask))
    found = []
    for act, *arguments in script:
        found.append(await act(player, *arguments))
    return found


async def compare(url: str, script: list[tuple[Any, ...]]) -> list[list[Answer]]:
    """Play it on both; the answers, which are the same."""
    prefix = f"x{next(_NUMBERS)}x"
    connection = await nats.connect(url)
    theirs = await play(Player(connection, prefix), script)
    await connection.close()
    link = MemoryLink(Broker(), Party("player"))
    await link.connect()
    ours = await play(Player(link, prefix), script)
    await link.close()
    for step, expected, found in zip(script, theirs, ours, strict=True):
        assert found == expected, f"{step[0].__name__}{step[1:]}"
    return ours


def _own(value: Any, prefix: str) -> Any:
    if isinstance(value, str):
        return value.replace("%", prefix)
    if isinstance(value, dict):
        return {name: _own(one, prefix) for name, one in value.items()}
    return [_own(one, prefix) for one in value] if isinstance(value, list) else value


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# ---- scripts

small = st.integers(0, 8)
ids = st.sampled_from(["", "", "one", "two", "three"])
expected = st.sampled_from(["", "", "", "0", "1", "2", "3", "zz"])


@st.composite
def headers(draw: st.DrawFn) -> dict[str, str]:
    found = {"A-b": "text"} if draw(st.booleans()) else {}
    if msg_id := draw(ids):
        found["Nats-Msg-Id"] = msg_id
    if sequence := draw(expected):
        found["Nats-Expected-Last-Subject-Sequence"] = sequence
    return found


FAR = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
schedules = st.fixed_dictionaries(
    {
        "Nats-Schedule": st.sampled_from([f"@at {FAR}", f"@at {FAR}", "@at yesterday", "soon"]),
        "Nats-Schedule-Target": st.sampled_from(["%.due.a", "%.due.a", "%.later.t1", "nowhere"]),
        "Nats-Schedule-TTL": st.sampled_from(["168h", "1h30m", "nonsense"]),
        "Nats-Msg-Id": ids,
    }
)
subjects_w, subjects_l = st.sampled_from(["%.w.a", "%.w.b"]), st.sampled_from(["%.l.a", "%.l.b", "%.l.a.b"])
patterns = st.sampled_from(["%.l.a", "%.l.b", "%.l.*", "%.l.>", "%.l.*.b", "%.nothing"])
several = st.lists(patterns, min_size=1, max_size=2)
steps = st.one_of(
    st.tuples(st.just(publish), subjects_w, headers()),
    st.tuples(st.just(publish), subjects_l, headers()),
    st.tuples(st.just(publish), st.sampled_from(["%.later.t1", "%.later.t2"]), schedules),
    st.tuples(st.just(publish), st.just("%.nowhere"), headers()),
    st.tuples(
        st.just(publish_batch),
        st.sampled_from(["batch-1", "batch-2"]),
        st.lists(st.tuples(subjects_w, headers()), min_size=1, max_size=4),
    ),
    st.builds(
        lambda consumer, batch: (_pull_now, consumer, batch), st.sampled_from(["a", "b", "none"]), st.integers(1, 4)
    ),
    st.tuples(
        st.just(answer_delivery), small, st.sampled_from([b"+ACK", b"-NAK", b"+TERM", b"+WPI", b"+TERM why", b""])
    ),
    st.tuples(st.just(read), st.just("%_L"), subjects_l),
    st.tuples(
        st.just(read),
        st.just("%_L"),
        st.one_of(
            st.fixed_dictionaries({"seq": st.integers(1, 9), "next_by_subj": patterns, "batch": st.integers(1, 5)}),
            st.fixed_dictionaries({"seq": st.integers(1, 9), "next_by_subj": patterns}),
            st.fixed_dictionaries({"seq": st.integers(1, 9)}),
            st.fixed_dictionaries({"multi_last": st.lists(patterns, min_size=1, max_size=2)}),
            st.fixed_dictionaries(
                {"multi_last": st.lists(patterns, min_size=1, max_size=2), "up_to_seq": st.integers(1, 9)}
            ),
            st.fixed_dictionaries({"last_by_subj": patterns}),
            st.just({}),
        ),
    ),
    st.tuples(
        st.just(api),
        st.sampled_from(["STREAM.PURGE.%_L", "STREAM.PURGE.%_W"]),
        st.sampled_from([None, {"filter": "%.l.a"}, {"filter": "%.w.a"}, {"filter": "%.l.>", "keep": 1}]),
    ),
    st.tuples(st.just(api), st.just("STREAM.PURGE.%_L"), st.fixed_dictionaries({"seq": st.integers(1, 5)})),
    st.tuples(st.just(api), st.just("STREAM.PURGE.%_D"), st.fixed_dictionaries({"filter": st.just("%.later.t1")})),
    st.tuples(
        st.just(api),
        st.sampled_from(["STREAM.MSG.GET.%_L", "STREAM.MSG.DELETE.%_L", "STREAM.MSG.DELETE.%_W"]),
        st.fixed_dictionaries({"seq": st.integers(1, 9)}),
    ),
    st.tuples(st.just(api), st.just("STREAM.INFO.%_L"), st.fixed_dictionaries({"subjects_filter": patterns})),
    st.tuples(st.just(api), st.sampled_from(["STREAM.INFO.%_W", "STREAM.INFO.%_D", "STREAM.INFO.%_NONE"])),
    st.builds(lambda consumer: (_read_consumer, consumer), st.sampled_from(["a", "b", "none"])),
)


async def _settle(player: Player, consumer: str) -> None:
    """Until the consumer knows of every message that is stored for it: a real server tells it a moment after the
    publisher, and until then a pull that does not wait finds fewer."""

    async def settled() -> bool:
        # Each in flight, or still to come.
        [stream] = await api(player, "STREAM.INFO.%_W", {"subjects_filter": f"%.w.{consumer}"})
        [found] = await api(player, f"CONSUMER.INFO.%_W.{consumer}")
        stored = sum((stream.body["state"].get("subjects") or {}).values())
        return bool(found.body["num_pending"] + found.body["num_ack_pending"] == stored)

    await eventually(settled, PATIENCE, f"{consumer} knows what is stored")


async def _pull_now(player: Player, consumer: str, batch: int) -> list[Answer]:
    if consumer != "none":
        await _settle(player, consumer)
    return await pull(player, "%_W", consumer, batch=batch, no_wait=True)


async def _read_consumer(player: Player, consumer: str) -> list[Answer]:
    if consumer != "none":
        await _settle(player, consumer)
    return await api(player, f"CONSUMER.INFO.%_W.{consumer}")


# Not shrunk: each run needs streams of its own on the real server, and the message names the step that differs.
@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(script=st.lists(steps, min_size=5, max_size=30))
def test_any_script_has_the_same_answers_on_both(url: str, script: list[tuple[Any, ...]]) -> None:
    asyncio.run(compare(url, script))


async def _publish_due(player: Player, subject: str, seconds: float, which: str = "") -> list[Answer]:
    """A schedule whose time comes so many seconds from now."""
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    fixed = {"Nats-Schedule-TTL": "1h", "Mp-Envelope": "{}", "Which": which}
    target = f"%.due.{'a' if subject.endswith('1') else 'b'}"
    return await publish(
        player, subject, fixed | {"Nats-Schedule": f"@at {at.isoformat()}", "Nats-Schedule-Target": target}
    )


async def _pull_within(player: Player, consumer: str, seconds: float) -> list[Answer]:
    return await pull(player, "%_S", consumer, batch=1, expires=int(seconds * SECOND))


async def _nak_for(player: Player, seconds: float) -> list[Answer]:
    """Give a's first delivery back for that long; its next one, which comes no sooner."""
    began = time.monotonic()
    await answer_delivery(player, 0, b'-NAK {"delay": %d}' % int(seconds * SECOND))
    found = await _pull_within(player, "a", PATIENCE)
    assert time.monotonic() - began >= seconds
    return found


async def test_schedules_sources_delays_and_leases_tell_the_same_story(url: str) -> None:
    script: list[tuple[Any, ...]] = [
        (_publish_due, "%.later.t1", 0.5),
        # The second schedule of a subject takes the place of the first.
        (_publish_due, "%.later.t2", 3600, "first"),
        (_publish_due, "%.later.t2", 0.5, "second"),
        # They are due: written without their own headers, and in the queue under its subjects.
        (_pull_within, "a", PATIENCE),
        (_pull_within, "b", PATIENCE),
        (api, "STREAM.INFO.%_D", {"subjects_filter": ">"}),
        # A delayed NAK comes again with the next count, and so does a lease that ran out.
        (_nak_for, 0.2),
        (_pull_within, "b", PATIENCE),
        # An ack of the first delivery takes away the message, whoever has it now.
        (answer_delivery, 1, b"+ACK"),
        (answer_delivery, 2, b"+ACK"),
        (_pull_within, "b", 0.05),
    ]
    await compare(url, script)
