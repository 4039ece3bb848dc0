"""The protocol's model: the quick scopes have no bad state, and without any one of its rules there is one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import protocol_model
from tests.support.protocol_model import QUICK, Broken, Event, Scope, explore, lost_runs


@pytest.mark.parametrize("scope", QUICK, ids=str)
def test_every_interleaving_records_one_outcome_and_loses_nothing(scope: Scope) -> None:
    found = explore(scope)
    assert not found.violation
    assert found.states > 1000


@pytest.mark.parametrize(
    ("broken", "scope", "says"),
    [
        (Broken.FENCE, Scope(), "an outcome is not final"),
        (Broken.ORDER, Scope(), "no longer end well"),
        (Broken.ZOMBIE_ACK, Scope(crashes=1), "no longer end well"),
        (Broken.RELEASE, Scope(releases=1), "no longer end well"),
        (Broken.SNOOZE, Scope(snoozes=1), "an older message runs"),
        (Broken.REDRIVE, Scope(crashes=1, redrives=1, workers=1), "no longer end well"),
    ],
    ids=lambda value: value.value if isinstance(value, Broken) else None,
)
def test_taking_one_rule_away_is_seen(broken: Broken, scope: Scope, says: str) -> None:
    assert says in explore(scope, broken).violation


def test_command_line_reports_the_violation_and_fails() -> None:
    """`--break` is how a person convinces himself that the model can see anything at all."""
    model = Path(protocol_model.__file__)
    ended = subprocess.run([sys.executable, model, "--break", "fence"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "an outcome is not final: deliver 1 to 0" in ended.stdout


def test_released_runs_do_not_count_as_lost() -> None:
    running, queued = Event("Running", 1), Event("Queued", 1)
    assert lost_runs([running, running, queued, running], 1) == 2
