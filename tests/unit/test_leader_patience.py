"""A holder of the Lease gives up before anybody else may take over, and not because the API server is slow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_operator.cluster.leader import Patience

durations = st.floats(3.0, 600.0)


@given(durations, st.data())
def test_a_holder_that_gets_no_answer_gives_up_before_the_lease_ends(duration: float, data: st.DataObject) -> None:
    patience, silent, refused = Patience(duration), 0.0, False
    while True:
        silent += patience.pause(silent, refused=refused)
        refused = True
        # Refused after some time, or never answered.
        silent += data.draw(st.floats(0.0, 1.0)) * patience.timeout(silent)
        if patience.is_over(silent):
            break
    assert silent <= 0.9 * duration * 1.000001


@given(durations)
def test_a_server_that_takes_a_quarter_of_the_lease_to_answer_keeps_its_leader(duration: float) -> None:
    patience, answer = Patience(duration), duration / 4
    # The next one is asked that long after the last was asked, since its answer took so long.
    assert patience.pause(answer, refused=False) == 0.0
    for silent in (patience.pause(0.0, refused=False), answer):
        assert patience.timeout(silent) >= answer


def test_a_process_that_stalled_asks_once_more_before_it_gives_up() -> None:
    patience = Patience(10.0)
    assert patience.pause(60.0, refused=True) == 0.0
    assert patience.timeout(60.0) == pytest.approx(1.0)
    assert patience.is_over(60.0)
