"""The checkpoints' model: no bad state, and without any one of its rules there is one."""

import pytest

from tests.support.checkpoints_model import Broken, explore


def test_no_interleaving_lets_a_stale_attempt_write_after_a_newer_one_has_gone_on() -> None:
    found = explore()
    assert not found.violation
    assert found.states > 10_000


@pytest.mark.parametrize("broken", [Broken.CAS, Broken.TOKEN, Broken.TAKE_OVER], ids=lambda broken: broken.value)
def test_taking_one_rule_away_is_seen(broken: Broken) -> None:
    assert "a stale attempt's write follows" in explore(broken).violation
