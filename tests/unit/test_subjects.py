"""Subject names: what is built is parsed again, and no name can address somebody else's messages."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api import subjects

tokens = st.from_regex(subjects.TOKEN, fullmatch=True)
kubernetes_names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", fullmatch=True)

BAD = ["", "a.b", "*", ">", "a b", "a\n", "a\r\nX: y", "a\t", "ä", "x" * 129, "a/b", "a\0"]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_dots_wildcards_and_spaces_never_get_into_a_subject(bad: str) -> None:
    builders: dict[str, list[Callable[[], str]]] = {
        "task id": [
            lambda: subjects.later("ns", "p", bad),
            lambda: subjects.task_events("ns", "p", bad),
            lambda: subjects.dead("ns", "p", bad),
        ],
        "class": [
            lambda: subjects.tasks("ns", "p", bad),
            lambda: subjects.due("ns", "p", bad),
            lambda: subjects.consumer(bad),
        ],
        "worker": [
            lambda: subjects.worker_events("ns", "p", bad),
            lambda: subjects.beat("ns", "p", bad),
            lambda: subjects.rpc("ns", "p", bad, "ping"),
        ],
        "namespace": [lambda: subjects.pool_stream(bad, "p")],
        "pool": [lambda: subjects.pool_stream("ns", bad)],
    }
    for what, calls in builders.items():
        for call in calls:
            with pytest.raises(ValueError, match=what):
                call()


@given(st.text())
def test_any_text_is_one_token_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        subject = subjects.later("ns", "p", text)
        assert subject.count(".") == 4
        assert not set(subject) & set("*> \t\r\n")


@pytest.mark.parametrize("bad", ["", "a b", "naïve", "a\n", "x" * 129, "a*"], ids=repr)
def test_handler_names_that_break_a_header_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="handler name"):
        subjects.check_handler(bad)


@pytest.mark.parametrize("good", ["census.parse_file", "app:task", "a/b-c_d", "x" * 128])
def test_handler_names_may_be_python_paths(good: str) -> None:
    assert subjects.check_handler(good) == good


@given(kubernetes_names, kubernetes_names, tokens)
def test_event_subject_is_parsed_as_built(namespace: str, pool: str, name: str) -> None:
    address = subjects.Address(namespace, pool, name)
    task, worker = subjects.task_events(*address), subjects.worker_events(*address)
    assert subjects.parse_event(task) == subjects.parse_event(subjects.feed(task)) == ("task", address)
    assert subjects.parse_event(worker) == subjects.parse_event(subjects.feed(worker)) == ("worker", address)
    assert subjects.parse_beat(subjects.beat(*address)) == address


@given(kubernetes_names, kubernetes_names)
def test_pool_stream_is_parsed_as_built(namespace: str, pool: str) -> None:
    assert subjects.parse_pool_stream(subjects.pool_stream(namespace, pool)) == (namespace, pool)


@given(st.tuples(kubernetes_names, kubernetes_names), st.tuples(kubernetes_names, kubernetes_names))
def test_two_pools_never_share_a_stream(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (subjects.pool_stream(*one) == subjects.pool_stream(*other)) == (one == other)


@pytest.mark.parametrize("stream", ["MILLPOND_EVENTS", "MP_a", "MP_a_b_c", "X_a_b", ""])
def test_foreign_streams_are_no_pools(stream: str) -> None:
    assert subjects.parse_pool_stream(stream) is None


@pytest.mark.parametrize("subject", ["", "mp.events.task.ns.pool", "mp.tasks.ns.pool.a.b", "mp.events.task.a.b.c.d"])
def test_foreign_event_subjects_are_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="not an event subject"):
        subjects.parse_event(subject)
