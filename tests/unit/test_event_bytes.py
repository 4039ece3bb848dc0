"""The journal writes events with an encoder of its own: byte for byte what the contract's model writes."""

from datetime import UTC, datetime, timedelta, timezone

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millpond.worker.journal import encode_event
from millpond_api.events import TaskError, TaskEvent
from millpond_api.lifecycle import TaskState

SLOW = settings(suppress_health_check=[HealthCheck.too_slow])
"""A shared machine is slow at times, and that says nothing of the code."""
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-3))])
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=ZONES) | st.datetimes(  # noqa: DTZ001
    datetime(2020, 1, 1),  # noqa: DTZ001
    datetime(2030, 1, 1),  # noqa: DTZ001
)
ERRORS = st.builds(TaskError, type=TEXTS, message=TEXTS, traceback=TEXTS, retryable=st.booleans())
EVENTS = st.builds(
    TaskEvent,
    state=st.sampled_from(TaskState),
    attempt=st.integers(1, 2**31),
    at=TIMES,
    handler=TEXTS,
    worker=TEXTS,
    reason=TEXTS,
    message=TEXTS,
    error=st.none() | ERRORS,
    next_at=st.none() | TIMES,
    sequence=st.integers(0, 2**53),
)


@SLOW
@given(EVENTS)
def test_an_event_has_the_bytes_that_its_model_writes(event: TaskEvent) -> None:
    assert encode_event(event) == event.encode()


@SLOW
@given(EVENTS, st.lists(st.integers(-(2**53), 2**53) | TEXTS, max_size=3))
def test_a_result_is_read_back_whatever_else_the_event_holds(event: TaskEvent, result: list[object]) -> None:
    read = TaskEvent.model_validate_json(encode_event(event, orjson.dumps(result)))
    assert read.result == result
    assert read.model_copy(update={"result": None}) == TaskEvent.model_validate_json(event.encode())


def test_no_field_of_an_event_has_another_name_on_the_wire() -> None:
    assert not [name for name, field in TaskEvent.model_fields.items() if field.alias or field.serialization_alias]
