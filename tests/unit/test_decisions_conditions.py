"""Conditions: what they say, and when their time moves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from millpond_operator.decisions.conditions import Fact, PoolFacts, decide_pool_facts, make_conditions, say_decision
from millpond_scaling import Decision

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = make_conditions([], [Fact("Ready", False, "WorkersStarting", "0 of 1")], NOW, 1)
    same = make_conditions(first, [Fact("Ready", False, "WorkersStarting", "0 of 2")], LATER, 2)
    assert same[0].last_transition_time == NOW
    assert (same[0].message, same[0].observed_generation) == ("0 of 2", 2)
    changed = make_conditions(same, [Fact("Ready", True, "WorkersReady")], LATER, 2)
    assert changed[0].last_transition_time == LATER


def test_an_unknown_fact_is_unknown_and_a_long_message_is_cut() -> None:
    (made,) = make_conditions([], [Fact("Ready", None, "Why", "x" * 5000)], NOW, 1)
    assert made.status == "Unknown"
    assert len(made.message) == 1024


def facts(**changes: object) -> PoolFacts:
    base: dict[str, object] = {
        "ready": 0,
        "desired": 0,
        "current": 0,
        "decision_reason": "Steady",
        "decision_message": "0 waiting",
        "queue_ready": True,
    }
    return PoolFacts(**(base | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "ready", "degraded"),
    [
        pytest.param(facts(), (True, "AtZero"), (False, "AllWell"), id="at zero and nothing to do"),
        pytest.param(facts(queue_ready=False), (False, "QueueMissing"), (False, "AllWell"), id="no queue yet"),
        pytest.param(
            facts(desired=2, current=2, ready=1),
            (False, "WorkersStarting"),
            (False, "AllWell"),
            id="one of two is ready",
        ),
        pytest.param(
            facts(desired=2, current=2, ready=2), (True, "WorkersReady"), (False, "AllWell"), id="two of two are ready"
        ),
        pytest.param(
            facts(desired=1, current=1, trouble=("ErrImagePull", "no such image")),
            (False, "ErrImagePull"),
            (True, "ErrImagePull"),
            id="the image is broken",
        ),
        pytest.param(
            facts(desired=1, current=1, ready=1, trouble=("HandlerMissing", "no handler x")),
            (True, "WorkersReady"),
            (True, "HandlerMissing"),
            id="ready, but a handler is missing",
        ),
        pytest.param(
            facts(mistakes=("schedule x has no effect: start '61 * * * *' can't be read",)),
            (True, "AtZero"),
            (True, "ScheduleIgnored"),
            id="a schedule that can't be read",
        ),
        pytest.param(
            facts(desired=1, current=1, trouble=("ErrImagePull", "no such image"), mistakes=("schedule x",)),
            (False, "ErrImagePull"),
            (True, "ErrImagePull"),
            id="a broken image comes before a schedule",
        ),
    ],
)
def test_ready_and_degraded(seen: PoolFacts, ready: tuple[bool, str], degraded: tuple[bool, str]) -> None:
    told = {fact.type: (fact.holds, fact.reason) for fact in decide_pool_facts(seen)}
    assert told["Ready"] == ready
    assert told["Degraded"] == degraded
    assert set(told) == {"Ready", "Scaling", "Degraded", "Paused", "HandlerMissing"}


def test_trouble_with_a_worker_does_not_hide_what_is_wrong_in_the_spec() -> None:
    seen = facts(desired=1, current=1, trouble=("ErrImagePull", "no such image"), mistakes=("schedule x", "schedule y"))
    found = {fact.type: fact for fact in decide_pool_facts(seen)}["Degraded"]
    assert (found.reason, found.message) == ("ErrImagePull", "no such image; schedule x; schedule y")


def test_scaling_tells_the_decision_while_the_number_differs() -> None:
    told = {f.type: f for f in decide_pool_facts(facts(desired=3, current=1, decision_reason="ScaleUp"))}
    assert (told["Scaling"].holds, told["Scaling"].reason) == (True, "ScaleUp")


def test_in_shadow_mode_both_say_what_they_want() -> None:
    decision = Decision(2, 9, "ScaleUp", "40 waiting and 2 in flight need 9 workers")
    order = Decision(2, 2, "Shadow", "nobody has set spec.replicas")
    reason, message = say_decision(decision, order)
    assert reason == "Shadow"
    assert decision.message in message
    assert order.message in message
    assert say_decision(decision, decision) == ("ScaleUp", decision.message)
    assert say_decision(None, None)[0] == "Starting"


def test_a_pool_that_its_rate_holds_back_says_so_and_one_without_a_rate_has_no_such_condition() -> None:
    seen = PoolFacts(1, 1, 1, "Steady", "", queue_ready=True)
    assert not [fact for fact in decide_pool_facts(seen) if fact.type == "RateLimited"]
    calm, held = (
        decide_pool_facts(replace(seen, rate="10/s", limited=limited, waiting=7))[-1] for limited in (False, True)
    )
    assert (calm.type, calm.holds) == ("RateLimited", False)
    assert (held.type, held.holds, held.reason) == ("RateLimited", True, "RateReached")
    assert "7 tasks wait" in held.message
