"""The lease's model has no bad state, and each of its rules is needed."""

import pytest

from tests.support.lease_model import Broken, explore


def test_no_interleaving_runs_calls_of_two_owners_or_leaks_a_slot() -> None:
    states, harm = explore()
    assert not harm
    assert states > 500


@pytest.mark.parametrize("rule", [rule for rule in Broken if rule is not Broken.NONE])
def test_without_one_of_its_rules_a_lease_does_harm(rule: Broken) -> None:
    assert explore(rule)[1]
