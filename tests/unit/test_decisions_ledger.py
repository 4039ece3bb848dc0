"""What is written down: every change, every refusal once, a sign of life while a pool works, nothing at rest."""

from dataclasses import replace
from datetime import UTC, datetime

from millpond_api.v1alpha1.workerpool import Decision as Entry
from millpond_operator.decisions.ledger import (
    SIGN_OF_LIFE,
    Recorded,
    decide_entry,
    is_news,
    is_refused,
    make_entry,
    what_of,
)
from millpond_scaling import Decision, Memory, Observation, Policy, decide

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REST = Observation(lag=0, in_flight=0, current=0)
BUSY = Observation(lag=40, in_flight=2, current=2)


def made(seen: Observation, policy: Policy) -> Decision:
    return decide(seen, policy, Memory(), 100.0)


def test_a_first_and_a_changed_decision_are_news_and_the_same_again_is_not() -> None:
    decision = made(REST, Policy())
    assert is_news(None, decision, REST, 100.0)
    last = Recorded(what_of(decision), 100.0)
    assert not is_news(last, decision, REST, 101.0)
    assert is_news(last, replace(decision, clamp="maxWorkers"), REST, 101.0)
    assert is_news(last, replace(decision, reason="Paused"), REST, 101.0)


def test_a_pool_that_works_gives_a_sign_of_life_and_one_at_rest_none() -> None:
    busy = made(BUSY, Policy(max_workers=2))
    last = Recorded(what_of(busy), 100.0)
    assert not is_news(last, busy, BUSY, 100.0 + SIGN_OF_LIFE - 1)
    assert is_news(last, busy, BUSY, 100.0 + SIGN_OF_LIFE)
    rest = made(REST, Policy())
    assert not is_news(Recorded(what_of(rest), 100.0), rest, REST, 1e6)


def test_an_unknown_lag_is_no_rest() -> None:
    seen = Observation(lag=None, in_flight=0, current=1)
    decision = made(seen, Policy())
    assert is_news(Recorded(what_of(decision), 0.0), decision, seen, SIGN_OF_LIFE)


def test_growth_that_a_bound_refuses_is_told_once() -> None:
    policy = Policy(max_workers=2)
    decision = made(BUSY, policy)
    assert is_refused(decision)
    entry = decide_entry(None, policy, decision, AT)
    assert entry is not None
    assert (entry.source, entry.target, entry.clamp, entry.acted) == (2, 2, "maxWorkers", False)
    assert entry.message == decision.message
    assert decide_entry(entry, policy, decision, AT) is None


def test_a_floor_above_the_need_is_no_refusal() -> None:
    policy = Policy(min_workers=1)
    decision = made(Observation(lag=0, in_flight=0, current=1), policy)
    assert decide_entry(None, policy, decision, AT) is None


def test_a_change_is_told_by_who_makes_it_and_not_twice() -> None:
    policy = Policy(max_workers=9)
    assert decide_entry(None, policy, made(BUSY, policy), AT) is None


def test_shadow_mode_tells_what_it_would_do_once_for_each_number() -> None:
    policy = Policy(max_workers=9, shadow=True)
    decision = made(BUSY, policy)
    entry = decide_entry(None, policy, decision, AT)
    assert entry is not None
    assert (entry.source, entry.target, entry.acted) == (2, 9, False)
    assert decide_entry(entry, policy, decision, AT) is None
    other = made(replace(BUSY, lag=5), policy)
    assert decide_entry(entry, policy, other, AT) is not None


def test_an_entry_reads_back_from_its_manifest() -> None:
    entry = make_entry(made(BUSY, Policy(max_workers=2)), 2, AT)
    assert Entry.model_validate(entry.to_manifest()) == entry
