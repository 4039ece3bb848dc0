"""Nothing that stands on the wire ends a worker, a client or the operator's readers: they read it or leave it out."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from millpond import App
from millpond.testing import Pool
from millpond_api import subjects
from millpond_api.envelope import MalformedTask, parse_envelope, parse_payload
from millpond_api.events import Beat, TaskError, TaskEvent, WorkerEvent, utc_now
from millpond_api.lifecycle import fold_all, read_events
from millpond_operator.broker.workers import BeatReader

app = App()


@app.task("echo")
async def echo(value: Any) -> Any:
    return value


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**30, -1e308, 1e-9, "", "x.y", "*", ">", "a b", "é"]),
    st.text(max_size=8),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
bodies = st.one_of(st.binary(max_size=30), anything.map(lambda value: json.dumps(value).encode()))
EVENT = TaskEvent(state="Running", at=utc_now()).model_dump(mode="json")
events = st.one_of(
    bodies,
    st.builds(
        lambda name, value: json.dumps({**EVENT, name: value}).encode(),
        st.sampled_from(["state", "attempt", "at", "error", "next_at", "worker", "result"]),
        anything,
    ),
)


@given(log=st.lists(events, max_size=8))
def test_any_log_folds_and_keeps_its_last_sequence(log: list[bytes]) -> None:
    view = fold_all(read_events(enumerate(log, start=1)))
    assert (view.last.sequence if view.last else 0) == len(log)
    assert view.state is not None


async def test_events_that_nobody_can_read_neither_stop_the_task_nor_its_client() -> None:
    async with Pool(app) as pool:
        log = subjects.task_events("test", "pool", "odd")
        for body in (b"junk", b'{"state":"Paused","at":"2026-01-01T00:00:00Z"}'):
            await pool.transport.publish_stored(log, body)
        task = await pool.submit("echo", 1, task_id="odd")
        assert await task.result() == 1
        assert (await pool.log(task))[-1].state == "Succeeded"
        await pool.is_empty()


@given(body=bodies)
def test_any_heartbeat_event_or_error_is_read_or_refused_by_one_kind_of_error(body: bytes) -> None:
    reader = BeatReader(lambda pool, worker, beat: None)
    for read in (
        lambda: reader.read(subjects.beat("ns", "pool", "w1"), body, 0.0),
        lambda: WorkerEvent.decode(body),
        lambda: TaskError.decode(body),
        lambda: Beat.decode(body),
    ):
        with contextlib.suppress(ValueError):
            read()


@given(header=st.one_of(st.text(max_size=30), anything.map(json.dumps)), body=bodies)
def test_any_envelope_and_payload_is_read_or_is_malformed(header: str, body: bytes) -> None:
    with contextlib.suppress(MalformedTask):
        parse_envelope(header)
    with contextlib.suppress(MalformedTask):
        parse_payload(body)
