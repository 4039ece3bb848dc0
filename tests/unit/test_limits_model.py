"""The limits' model: the quick scopes have no bad state, and without any one of its rules there is one."""

import pytest

from tests.support.limits_model import QUICK, Broken, Scope, explore


@pytest.mark.parametrize("scope", QUICK, ids=str)
def test_every_interleaving_keeps_the_limit_and_loses_nothing(scope: Scope) -> None:
    found = explore(scope)
    assert not found.violation
    assert found.states > 1000


@pytest.mark.parametrize(
    ("broken", "scope", "says"),
    [
        (Broken.LEAVE, Scope(crashes=1, fails=1), "two tasks of one key run"),
        (Broken.ASIDE, Scope(crashes=1), "a copy runs beside"),
        (Broken.BACK, Scope(lapses=1, fails=1), "two tasks of one key run"),
        (Broken.ENDED, Scope(tasks=3), "no longer end well"),
        (Broken.HAND_ON, Scope(tasks=3), "no longer end well"),
        (Broken.STALE, Scope(lapses=1, puts=1), "no longer end well"),
        (Broken.PARK, Scope(crashes=1), "no longer end well"),
    ],
    ids=lambda value: value.value if isinstance(value, Broken) else None,
)
def test_taking_one_rule_away_is_seen(broken: Broken, scope: Scope, says: str) -> None:
    assert says in explore(scope, broken).violation
