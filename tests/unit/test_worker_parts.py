"""The worker's pure parts: deliveries, malformed messages, events with results, announcements, health."""

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond.codecs.json import JsonCodec
from millpond.errors import ResultNotSerializable, ResultTooLarge
from millpond.packing import Wrap, pack_result
from millpond.transport import Message
from millpond.worker.announcer import Announcer
from millpond.worker.board import Board, Missing
from millpond.worker.delivery import is_delivery, nak_after, own_headers, parse_delivery
from millpond.worker.health import STALE, respond
from millpond.worker.journal import encode_event
from millpond.worker.malformed import _guess_task, read_envelope
from millpond_api.envelope import MalformedTask
from millpond_api.events import MAX_OBJECT_BYTES, Beat, TaskEvent, utc_now
from millpond_api.lifecycle import WorkerState, worker_may
from millpond_api.subjects import HEADER_ENVELOPE


def message(reply: str = "", **headers: str) -> Message:
    return Message(
        "mp.tasks.ns.p.default", reply, {key.replace("_", "-"): text for key, text in headers.items()}, b"{}"
    )


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.MP_ns_p.class-default.3.41.7.1795299515670600335.2",
        "$JS.ACK.hub.acc.MP_ns_p.class-default.3.41.7.1795299515670600335.2",
        "$JS.ACK.hub.acc.MP_ns_p.class-default.3.41.7.1795299515670600335.2.random",
    ],
    ids=["plain", "domain", "newer"],
)
def test_a_reply_subject_tells_the_delivery_and_the_messages_sequence(reply: str) -> None:
    delivery = parse_delivery(message(reply))
    assert (delivery.count, delivery.sequence) == (3, 41)
    assert is_delivery(delivery.message)
    assert not is_delivery(message("_INBOX.x.1"))


def test_a_delayed_nak_is_in_nanoseconds() -> None:
    assert nak_after(1.5) == b'-NAK {"delay": 1500000000}'


def test_the_servers_own_headers_never_travel_on() -> None:
    kept = own_headers(message(Mp_Envelope="{}", Nats_Msg_Id="x", Nats_TTL="168h", traceparent="00"))
    assert kept == {"Mp-Envelope": "{}", "traceparent": "00"}


@pytest.mark.parametrize(
    ("header", "task"),
    [
        ("", ("", 1)),
        ("not json", ("", 1)),
        ("[]", ("", 1)),
        ('{"id": "a.b"}', ("", 1)),
        ('{"id": 7}', ("", 1)),
        ('{"id": "t", "attempt": 3}', ("t", 3)),
        ('{"id": "t", "attempt": -3}', ("t", 1)),
        ('{"id": "t", "attempt": "x"}', ("t", 1)),
    ],
)
def test_a_broken_envelope_names_its_task_only_if_the_id_is_safe(header: str, task: tuple[str, int]) -> None:
    broken = Message("s", "", {HEADER_ENVELOPE: header}, b"")
    assert _guess_task(broken) == task
    with pytest.raises(MalformedTask):
        read_envelope(broken)


def test_an_id_that_would_address_other_subjects_is_malformed() -> None:
    header = '{"id": "x.>", "handler": "h", "enqueued": "2026-01-01T00:00:00Z"}'
    with pytest.raises(MalformedTask, match="task id"):
        read_envelope(Message("s", "", {HEADER_ENVELOPE: header}, b""))


@pytest.mark.parametrize("result", [b"", b"null", b"1", b'{"a":[null,"\xc3\xa4"]}'])
def test_a_result_is_part_of_its_events_json(result: bytes) -> None:
    event = TaskEvent(state="Succeeded", at=utc_now(), worker="w")
    read = TaskEvent.model_validate_json(encode_event(event, result))
    assert read.model_copy(update={"result": None}) == event
    assert (read.result is None) == (result in (b"", b"null"))


def test_results_that_cannot_travel_say_what_to_do() -> None:
    codec = JsonCodec()
    for value in (object(), b"bytes", {"deep": [object()]}):
        with pytest.raises(ResultNotSerializable, match="return plain values"):
            codec.encode_result(value)
    with pytest.raises(ResultTooLarge, match="store it elsewhere"):
        pack_result(Wrap(), "x" * MAX_OBJECT_BYTES)


@given(st.lists(st.sampled_from([WorkerState.IDLE, WorkerState.BUSY, WorkerState.LEASED])))
def test_flips_between_two_events_are_counted_and_the_sequence_stays_allowed(states: list[WorkerState]) -> None:
    board = Board(1, [], utc_now())
    announcer = Announcer(board, "s", lambda: None)
    announcer.change(WorkerState.IDLE, "Ready")
    for state in states:
        announcer.change(state, "flip")
    announcer.change(WorkerState.DRAINING, "Asked")
    events = list(announcer._queue)
    flips = sum(before != after for before, after in itertools.pairwise([WorkerState.IDLE, *states]))
    assert sum(event.flips for event in events[1:-1]) == flips
    assert len(events) <= 4
    assert events[-2].state == ([WorkerState.IDLE, *states])[-1]
    steps = [WorkerState.STARTING, *(event.state for event in events)]
    assert all(worker_may(source, target) for source, target in itertools.pairwise(steps))


def test_missing_handlers_are_counted_by_task_and_the_last_objects_named() -> None:
    missing = Missing()
    for number in range(30):
        missing.note(f"t{number}", "resize", f"object-{number}" if number else "")
    missing.note("t29", "resize", "object-29")
    counts, objects = missing.read()
    assert counts == {"resize": 30}
    assert objects == [f"object-{number}" for number in range(10, 30)]


def test_health_fails_when_a_loop_hangs_and_readiness_survives_a_drain() -> None:
    board, now = Board(1, [], utc_now()), time.monotonic()
    assert respond(board, "/healthz", now)[0] == 200
    assert respond(board, "/readyz", now)[0] == 503
    board.ready, board.state = True, WorkerState.STOPPED
    assert respond(board, "/readyz", now)[0] == 200
    board.main_tick = board.keeper_tick = now
    assert respond(board, "/healthz", now + STALE + 1)[0] == 503
    board.main_tick = now + STALE + 1
    assert "lease keeper" in respond(board, "/healthz", now + STALE + 1)[1]
    assert respond(board, "/", now)[0] == 404


def test_a_heartbeat_splits_service_times_once_there_is_more_than_one_class() -> None:
    board = Board(1, [], utc_now())
    board.count_served(2.0, "default", succeeded=True)
    assert board.make_beat(utc_now()).served == {}
    board.count_served(0.5, "urgent", succeeded=False)
    board.count_served(1.0, "default", succeeded=True)
    beat = Beat.decode(board.make_beat(utc_now()).encode())
    assert beat.served == {"default": (2, 3.0), "urgent": (1, 0.5)}
    assert (beat.succeeded, beat.failed) == (2, 1)
    # An older worker says nothing of classes.
    old = json.loads(beat.encode())
    del old["served"]
    assert Beat.decode(json.dumps(old).encode()).served == {}
