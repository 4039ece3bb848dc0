"""The rules of a lease as pure decisions: when it ends, who may call, what its log means to its client."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond.leasing import (
    RENEWALS,
    Granted,
    Over,
    Terms,
    decide_end,
    find_refusal,
    next_look,
    open_tenure,
    read_step,
    renew,
)
from millpond.outcomes import Verdict
from millpond_api.events import TaskEvent
from millpond_api.leases import LeaseAsk
from millpond_api.lifecycle import TaskState

TERMS = Terms(ttl=9.0)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.lists(st.floats(0.01, TERMS.ttl / RENEWALS), min_size=1, max_size=50))
def test_an_owner_that_renews_in_time_keeps_its_lease_for_ever(pauses: list[float]) -> None:
    now, tenure = 0.0, open_tenure(TERMS, 0.0)
    for pause in pauses:
        now += pause
        tenure = renew(tenure, TERMS, now)
        assert decide_end(tenure, TERMS, now, now) == tenure
        assert next_look(tenure, TERMS) == now + TERMS.ttl


@given(st.floats(0.0, 100.0), st.floats(0.0, 20.0))
def test_a_silent_owner_keeps_its_lease_for_the_ttl_and_no_longer(heard: float, silent: float) -> None:
    tenure = renew(open_tenure(TERMS, 0.0), TERMS, heard)
    look = next_look(tenure, TERMS)
    found = decide_end(tenure, TERMS, heard + silent, heard + silent)
    assert isinstance(found, Verdict) == (heard + silent >= look)


def test_a_worker_that_was_held_up_gives_the_owner_one_renewal_more_and_then_ends_it() -> None:
    tenure = open_tenure(TERMS, 0.0)
    more = decide_end(tenure, TERMS, planned=9.0, now=30.0)
    assert not isinstance(more, Verdict)
    assert next_look(more, TERMS) == 30.0 + TERMS.ttl / RENEWALS
    ended = decide_end(more, TERMS, planned=33.0, now=33.0)
    assert isinstance(ended, Verdict)
    assert (ended.state, ended.reason) == (TaskState.CANCELLED, "OwnerLost")


def test_the_longest_duration_ends_a_lease_that_is_renewed() -> None:
    terms = Terms(ttl=9.0, longest=20.0)
    tenure = renew(open_tenure(terms, 0.0), terms, 19.0)
    assert next_look(tenure, terms) == 20.0
    ended = decide_end(tenure, terms, 20.0, 20.0)
    assert isinstance(ended, Verdict)
    assert (ended.state, ended.reason) == (TaskState.EXPIRED, "MaxDuration")


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_only_the_token_of_a_lease_that_goes_on_may_call(token: int, asked: int, ended: bool) -> None:
    verdict = Verdict(TaskState.CANCELLED, "OwnerLost") if ended else None
    refusal = find_refusal(LeaseAsk(lease="a", token=asked), token, verdict)
    assert bool(refusal) == (asked != token or ended)
    assert find_refusal(LeaseAsk(lease="a", token=asked), None, None)


@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        ("Running", Granted("w2", 7), Over),
        ("Queued", None, Over),
        ("Scheduled", None, Over),
        ("Cancelled", Over, Over),
        ("Succeeded", Over, Over),
    ],
)
def test_a_later_step_is_a_grant_to_who_waits_and_a_loss_to_who_holds(state: str, before: object, after: type) -> None:
    event = TaskEvent(state=state, at=NOW, worker="w2", sequence=7)
    held = Granted("w1", 5)
    waiting = read_step(held, event, taken=False)
    assert isinstance(waiting, before) if isinstance(before, type) else waiting == before
    assert isinstance(read_step(held, event, taken=True), after)
    assert read_step(Granted("w2", 7), event, taken=True) is None, "its own grant, heard twice"
