"""The envelope: what was written is read again, and nothing that arrives can crash the reader."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from millpond_api.envelope import Envelope, MalformedTask, Payload, parse_envelope, parse_payload
from millpond_api.retry import RetryPolicy

moments = st.integers(946_684_800_000, 4_102_444_800_000).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
words = st.text(st.characters(codec="utf-8"), max_size=40)
policies = st.builds(RetryPolicy, max_attempts=st.integers(1, 1000), jitter=st.floats(0, 1))
envelopes = st.builds(
    Envelope,
    id=words,
    handler=words,
    task_class=words,
    attempt=st.integers(1, 10**6),
    enqueued=moments,
    deadline=st.none() | moments,
    retry=st.none() | policies,
    object=words,
    parent=words,
    trace=words,
)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(envelopes)
def test_envelope_written_is_the_envelope_read(envelope: Envelope) -> None:
    assert parse_envelope(envelope.encode().decode()) == envelope


@given(envelopes)
def test_envelope_is_one_header_line(envelope: Envelope) -> None:
    """A line break in a header would end it, and the rest would be read as another header."""
    text = envelope.encode()
    assert b"\n" not in text
    assert b"\r" not in text


@given(st.lists(plain, max_size=4), st.dictionaries(words, plain, max_size=4))
def test_payload_written_is_the_payload_read(args: list[Any], kwargs: dict[str, Any]) -> None:
    """None among the arguments too: compact JSON leaves out only the null fields of models."""
    payload = Payload(args=args, kwargs=kwargs)
    assert parse_payload(payload.encode()) == payload
    assert parse_payload(json.dumps({"args": args, "kwargs": kwargs}).encode()) == payload


@given(st.text() | plain.map(json.dumps))
@example("{")
@example('{"v":1}')
@example('{"id":"a","handler":"h","enqueued":"yesterday"}')
@example('{"id":"a","handler":"h","attempt":0,"enqueued":"2026-01-01T00:00:00Z"}')
def test_any_header_is_read_or_malformed(header: str) -> None:
    with contextlib.suppress(MalformedTask):
        parse_envelope(header)


@given(st.binary() | plain.map(lambda value: json.dumps(value).encode()))
@example(b"[1]")
@example(b'{"args":1}')
@example(b"\xff\xfe")
@example(b"[" * 10_000)
def test_any_body_is_read_or_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedTask):
        parse_payload(body)


@given(st.data(), envelopes)
def test_damaged_envelope_is_read_or_malformed(data: st.DataObject, envelope: Envelope) -> None:
    text = envelope.encode().decode()
    cut = data.draw(st.integers(0, len(text)))
    with contextlib.suppress(MalformedTask):
        parse_envelope(text[:cut] + data.draw(st.text(max_size=3)) + text[cut + 1 :])


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (None, "no Mp-Envelope header"),
        ("", "no Mp-Envelope header"),
        ('{"handler":"h","enqueued":"2026-01-01T00:00:00Z"}', "id: Field required"),
        ('{"id":"a","handler":"h","attempt":0,"enqueued":"2026-01-01T00:00:00Z"}', "attempt: "),
    ],
    ids=["absent", "empty", "no-id", "attempt-zero"],
)
def test_malformed_envelope_names_the_wrong_part(header: str | None, says: str) -> None:
    with pytest.raises(MalformedTask, match=says):
        parse_envelope(header)


def test_newer_writers_field_is_ignored_by_an_older_reader() -> None:
    text = '{"id":"a","handler":"h","enqueued":"2026-01-01T00:00:00Z","invented":{"later":1}}'
    assert parse_envelope(text).id == "a"


def test_next_attempt_changes_only_the_attempt() -> None:
    envelope = Envelope(id="a", handler="h", enqueued=datetime(2026, 1, 1, tzinfo=UTC))
    assert envelope.next_attempt() == envelope.model_copy(update={"attempt": 2})
