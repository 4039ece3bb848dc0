"""Dead letters as data: what is read of them, which ones a filter means, and where a redrive goes on after a crash."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond.answers import Stored
from millpond.frames import encode_headers
from millpond.letters import (
    REDRIVEN,
    DeadLetter,
    GoOn,
    LetterFilter,
    Over,
    PutBack,
    Refused,
    decide_redrive,
    make_letter,
    parse_letter,
)
from millpond_api import subjects
from millpond_api.envelope import Envelope
from millpond_api.events import TaskError, TaskEvent
from millpond_api.lifecycle import TERMINAL, TaskState, TaskView, fold_all, task_may

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ENVELOPE = Envelope(id="t", handler="census.parse", attempt=2, enqueued=NOW, deadline=NOW, object="parse-ast")


def printable(text: str) -> str:
    """As a worker writes errors: without lone surrogates."""
    return text.encode(errors="replace").decode()


def letter(envelope: Envelope | None = ENVELOPE, error: str = "TimeoutError", age: float = 60.0) -> DeadLetter:
    stored = Stored(7, "mp.dead.ns.mill.t", {}, b"{}")
    return DeadLetter("t", "mill", NOW - timedelta(seconds=age), TaskError(type=error), stored, envelope)


def log(*steps: tuple[str, int, str]) -> TaskView:
    events = [
        TaskEvent(state=state, attempt=attempt, reason=reason, at=NOW, sequence=10 * number)
        for number, (state, attempt, reason) in enumerate(steps, start=1)
    ]
    return fold_all(events)


def test_a_stored_letter_is_read_with_its_task_error_and_time() -> None:
    headers = {
        subjects.HEADER_ENVELOPE: ENVELOPE.encode().decode(),
        subjects.HEADER_ERROR: TaskError(type="TimeoutError", message="slow").encode().decode(),
        "Nats-Time-Stamp": "2026-03-01T12:00:00.5Z",
    }
    read = parse_letter(Stored(7, subjects.dead("ns", "mill", "t"), headers, b"{}"))
    assert (read.task, read.pool, read.handler, read.attempt, read.object) == (
        "t",
        "mill",
        "census.parse",
        2,
        "parse-ast",
    )
    assert (read.error.type, read.error.message) == ("TimeoutError", "slow")
    assert read.at == NOW + timedelta(seconds=0.5)


def test_a_letter_without_readable_headers_is_still_listed_and_refuses_a_redrive() -> None:
    headers = {subjects.HEADER_ENVELOPE: "{", subjects.HEADER_ERROR: "?", "Nats-Time-Stamp": NOW.isoformat()}
    read = parse_letter(Stored(7, subjects.dead("ns", "mill", "malformed-3"), headers, b"\xff"))
    assert (read.task, read.error.type, read.handler) == ("malformed-3", "Unknown", "")
    assert isinstance(decide_redrive(TaskView(), read, NOW), Refused)


@pytest.mark.parametrize(
    ("steps", "decision"),
    [
        pytest.param([("Running", 2, ""), ("Failed", 2, "")], PutBack, id="failed: put it back"),
        pytest.param([], PutBack, id="the log is older than its seven days: put it back"),
        pytest.param([("Failed", 2, ""), ("Queued", 3, REDRIVEN)], GoOn, id="crash after the commit: publish"),
        pytest.param([("Queued", 3, REDRIVEN), ("Running", 3, "")], Over, id="it runs again: a leftover"),
        pytest.param([("Running", 3, ""), ("Queued", 3, "Released")], Over, id="released again: a leftover"),
        pytest.param([("Running", 3, ""), ("Failed", 3, "")], Over, id="failed again: another letter stands for it"),
        pytest.param([("Queued", 3, REDRIVEN), ("Cancelled", 3, "")], Over, id="cancelled after the redrive"),
        pytest.param([("Running", 1, "")], Refused, id="submitted again under its id"),
        pytest.param([("Succeeded", 1, "")], Refused, id="submitted again, and done"),
    ],
)
def test_the_log_tells_how_far_a_redrive_got(steps: list[tuple[str, int, str]], decision: type) -> None:
    assert type(decide_redrive(log(*steps), letter(), NOW)) is decision


STEPS = st.lists(
    st.tuples(st.sampled_from(list(TaskState)), st.integers(1, 4), st.sampled_from(["", REDRIVEN])), max_size=5
)


@given(STEPS)
def test_only_a_failed_log_of_the_same_attempt_is_written_and_by_a_step_of_the_table(
    steps: list[tuple[str, int, str]],
) -> None:
    view = log(*steps)
    decision = decide_redrive(view, letter(), NOW)
    if isinstance(decision, PutBack):
        last = view.last
        assert decision.expected == (last.sequence if last else 0)
        assert last is None or (last.state, last.attempt) == ("Failed", 2)
        assert task_may(last.state if last else TaskState.FAILED, decision.event.state)
        assert (decision.event.attempt, decision.event.spent) == (3, 2)
    elif isinstance(decision, GoOn):
        assert view.state == TaskState.QUEUED
    elif isinstance(decision, Refused):
        assert view.state not in TERMINAL or view.last is not None


def test_a_redriven_envelope_has_all_attempts_anew_and_no_deadline_of_the_past() -> None:
    following = ENVELOPE.redriven(2)
    assert (following.attempt, following.tries, following.redrives, following.deadline) == (3, 1, 1, None)
    assert following.rank > ENVELOPE.rank
    assert (following.id, following.object) == (ENVELOPE.id, ENVELOPE.object)


@pytest.mark.parametrize(
    ("which", "meant"),
    [
        (LetterFilter(), True),
        (LetterFilter(handler="census.*"), True),
        (LetterFilter(handler="census"), False),
        (LetterFilter(error="Timeout*"), True),
        (LetterFilter(error="KeyError"), False),
        (LetterFilter(older=timedelta(seconds=59)), True),
        (LetterFilter(older=timedelta(seconds=61)), False),
        (LetterFilter(newer=timedelta(seconds=61)), True),
        (LetterFilter(newer=timedelta(seconds=59)), False),
        (LetterFilter(tasks=("t",)), True),
        (LetterFilter(tasks=("parse-ast",)), True),
        (LetterFilter(tasks=("u", "")), False),
        (LetterFilter(handler="census.parse", error="KeyError"), False),
    ],
)
def test_a_filter_means_what_all_its_parts_mean(which: LetterFilter, meant: bool) -> None:
    assert which.matches(letter(), NOW) is meant


texts = st.one_of(st.text(max_size=50), st.sampled_from(["x" * 70_000, "\x01" * 12_000, "é" * 20_000, "\ud800"]))
MOST = 1024 * 1024


@settings(max_examples=40)
@given(
    headers=st.dictionaries(st.sampled_from([subjects.HEADER_ENVELOPE, "A", "B"]), texts),
    size=st.sampled_from([0, 5, MOST - 70_000, MOST - 1, MOST]),
    error=st.builds(TaskError, type=texts.map(printable), message=texts.map(printable), traceback=texts.map(printable)),
)
def test_any_letter_is_one_that_the_server_takes_and_says_what_it_lacks(
    headers: dict[str, str], size: int, error: TaskError
) -> None:
    """nats-server: at most 64 KiB of headers (10097), 1 MiB in all; up to 400 bytes of message id come on top."""
    found, body = make_letter(headers, b"x" * size, error, MOST)
    block = len(encode_headers(found))
    assert block + 400 <= 64 * 1024
    assert block + len(body) + 400 <= MOST
    assert TaskError.decode(found[subjects.HEADER_ERROR].encode()).retryable == error.retryable
    whole = len(body) == size and headers.items() <= found.items()
    assert (subjects.HEADER_CUT in found) != whole


def test_a_small_letter_is_the_message_as_it_was() -> None:
    error = TaskError(type="ValueError", message="no")
    headers, body = make_letter({subjects.HEADER_ENVELOPE: "{}", "X": "1"}, b"body", error, MOST)
    assert headers == {subjects.HEADER_ERROR: error.encode().decode(), subjects.HEADER_ENVELOPE: "{}", "X": "1"}
    assert body == b"body"


def test_a_letter_that_was_cut_is_refused_with_what_is_lost() -> None:
    cut = replace(letter(), stored=Stored(7, "mp.dead.ns.mill.t", {subjects.HEADER_CUT: "5 bytes"}, b""))
    decided = decide_redrive(log(("Failed", 2, "")), cut, NOW)
    assert isinstance(decided, Refused)
    assert "5 bytes" in decided.why


def test_a_redriven_task_has_no_deadline_any_more_and_a_full_set_of_attempts() -> None:
    """Its deadline was set for the first set and is over: it would expire unrun."""
    again = ENVELOPE.redriven(ENVELOPE.attempt)
    assert ENVELOPE.deadline is not None
    assert again.deadline is None
    assert (again.attempt, again.tries, again.redrives) == (3, 1, 1)
