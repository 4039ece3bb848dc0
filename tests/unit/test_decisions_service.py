"""Mean service times from the totals in heartbeats: only what is new counts, and old work fades."""

import pytest
from millpond_operator.decisions.service import HALF_LIFE, ServiceMeter


def test_only_what_a_worker_did_since_its_last_beat_counts() -> None:
    meter = ServiceMeter()
    assert meter.mean is None
    meter.note(("w1", "a"), 10, 20.0, 0.0)
    meter.note(("w1", "a"), 10, 20.0, 1.0)
    assert meter.mean == 2.0
    meter.note(("w1", "a"), 20, 60.0, 1.0)
    assert meter.mean == pytest.approx(3.0, abs=0.01)


def test_a_restarted_worker_begins_at_zero_and_is_not_counted_backwards() -> None:
    meter = ServiceMeter()
    meter.note(("w1", "a"), 100, 100.0, 0.0)
    meter.note(("w1", "b"), 50, 150.0, 0.0)
    assert meter.mean == pytest.approx(250 / 150)


def test_work_of_long_ago_weighs_less_than_new_work() -> None:
    meter = ServiceMeter()
    meter.note(("w1", "a"), 100, 100.0, 0.0)
    meter.note(("w1", "a"), 200, 1100.0, 10 * HALF_LIFE)
    assert meter.mean == pytest.approx(10.0, rel=0.01)


def test_workers_that_are_gone_leave_no_memory_and_keep_their_weight() -> None:
    meter = ServiceMeter()
    meter.note(("w1", "a"), 10, 20.0, 0.0)
    meter.keep({"w2"})
    assert meter.mean == 2.0
    assert meter._known == {}
