"""A canary: promoted when it did well for long enough, undone when its tasks fail or it can't start."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api.v1alpha1.rollout import Canary
from millpond_operator.decisions.canary import Seen, Verdict, decide_canary

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
CANARY = Canary(share=20, duration="60s", max_failure_rate=0.2, min_tasks=5)
DEADLINE = timedelta(seconds=120)
WAIT, PROMOTE, ROLL_BACK = Verdict.WAIT, Verdict.PROMOTE, Verdict.ROLL_BACK
PULL = ("ImagePullBackOff", "no such image")


def seen(succeeded: int = 0, failed: int = 0, serving: int = 1, **more: object) -> Seen:
    served = {"serving_since": BEGAN + timedelta(seconds=10)} if serving else {}
    return Seen(BEGAN, serving=serving, succeeded=succeeded, failed=failed, **(served | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "seconds", "verdict"),
    [
        pytest.param(seen(serving=0), 20, WAIT, id="no worker yet"),
        pytest.param(seen(9, 0), 69, WAIT, id="all well, but its time is not over"),
        pytest.param(seen(9, 0), 70, PROMOTE, id="all well for its whole time"),
        pytest.param(seen(4, 0), 500, WAIT, id="too few attempts have ended, however long it takes"),
        pytest.param(seen(8, 2), 70, PROMOTE, id="as many failures as may be"),
        pytest.param(seen(7, 2), 70, ROLL_BACK, id="more failures than may be"),
        pytest.param(seen(3, 2), 11, ROLL_BACK, id="failures are believed before its time is over"),
        pytest.param(seen(2, 2), 11, WAIT, id="but not from too few attempts"),
        pytest.param(seen(serving=0, trouble=PULL), 119, WAIT, id="it can't start: maybe soon"),
        pytest.param(seen(serving=0, trouble=PULL), 120, ROLL_BACK, id="it can't start: given up at the deadline"),
        pytest.param(seen(1, 0, serving=1, trouble=PULL), 120, WAIT, id="one can't start, another serves"),
    ],
)
def test_the_verdict(what: Seen, seconds: float, verdict: Verdict) -> None:
    assert decide_canary(CANARY, DEADLINE, what, BEGAN + timedelta(seconds=seconds)).verdict is verdict


def test_the_sentence_of_a_rollback_has_the_figures() -> None:
    found = decide_canary(CANARY, DEADLINE, seen(3, 7), BEGAN)
    assert found.message == "7 of 10 attempts failed on the new version; maxFailureRate is 0.2"
    found = decide_canary(CANARY, DEADLINE, seen(serving=0, trouble=PULL), BEGAN + DEADLINE)
    assert found.message == ("no worker of the new version could start within 120 s: ImagePullBackOff: no such image")


def test_without_a_minimum_the_first_failure_counts_and_no_attempt_is_no_failure() -> None:
    canary = CANARY.model_copy(update={"min_tasks": 0})
    assert decide_canary(canary, DEADLINE, seen(0, 1), BEGAN).verdict is ROLL_BACK
    assert decide_canary(canary, DEADLINE, seen(0, 0), BEGAN + timedelta(seconds=70)).verdict is PROMOTE


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 300))
def test_one_more_success_never_undoes_and_one_more_failure_never_promotes(
    succeeded: int, failed: int, seconds: int
) -> None:
    now = BEGAN + timedelta(seconds=seconds)

    def verdict(more_good: int, more_bad: int) -> Verdict:
        return decide_canary(CANARY, DEADLINE, seen(succeeded + more_good, failed + more_bad), now).verdict

    if verdict(0, 0) is PROMOTE:
        assert verdict(1, 0) is PROMOTE
    if verdict(0, 0) is ROLL_BACK:
        assert verdict(0, 1) is ROLL_BACK
