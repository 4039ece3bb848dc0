"""The worked examples of docs/scaling.md: each sentence there is what `decide` says today, word for word."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from millpond_scaling import Memory, Observation, Policy, decide
from millpond_scaling.model import Behavior, RatePolicy, Schedule

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
NOW = 1000.0
CALM = Memory(needs=((NOW - 2, 8),))
"""Two seconds ago 8 workers were needed."""

RESTING = Memory(needs=((NOW - 6, 0),), empty_since=NOW - 6, seen=(NOW - 1, 1))
LATER = Memory(needs=((NOW - 1, 2),), seen=(NOW - 1, 6))
"""All windows have passed."""


def wall(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NINE = Schedule("office", "0 8 * * 1-5", "0 18 * * 1-5", "Europe/Berlin", min_workers=10)
NIGHT = Schedule("night", "0 22 * * *", "0 6 * * *", max_workers=2)
SLOW = Behavior(policies=(RatePolicy("Pods", 4, 15.0), RatePolicy("Percent", 100, 15.0)))
MONDAY_NINE = wall("2026-06-01T07:00:00")

EXAMPLES = [
    pytest.param(Observation(47, 7, 0), Policy(slots=4, lag_per_slot=10), Memory(), 3, id="lagPerSlot"),
    pytest.param(
        Observation(100, 0, 0, service_seconds=2.0),
        Policy(max_workers=50, latency=10.0),
        Memory(),
        20,
        id="latency short",
    ),
    pytest.param(
        Observation(10, 0, 0, service_seconds=60.0),
        Policy(max_workers=50, latency=10.0),
        Memory(),
        10,
        id="latency long",
    ),
    pytest.param(Observation(10, 0, 0), Policy(latency=10.0), Memory(), 10, id="latency unknown service time"),
    pytest.param(Observation(14, 14, 14), Policy(max_workers=50, utilization=0.7), Memory(), 20, id="utilization"),
    pytest.param(Observation(420, 8, 8), Policy(max_workers=20, lag_per_slot=10), Memory(), 20, id="maxWorkers"),
    pytest.param(Observation(0, 0, 0), Policy(min_workers=2), Memory(), 2, id="minWorkers"),
    pytest.param(Observation(3, 0, 0), Policy(activation=5), Memory(), 0, id="activationLag"),
    pytest.param(Observation(3, 3, 3), Policy(warm=2), Memory(), 5, id="warmWorkers"),
    pytest.param(Observation(100, 0, 6), Policy(max_workers=50, scale_up=SLOW), Memory(), 12, id="scaleUp.policies"),
    pytest.param(Observation(3, 3, 8), Policy(), CALM, 8, id="scaleDown.stabilization"),
    pytest.param(Observation(0, 0, 1), Policy(), RESTING, 1, id="idleAfter"),
    pytest.param(
        Observation(3, 0, 0, wall=MONDAY_NINE), Policy(max_workers=20, schedules=(NINE,)), Memory(), 10, id="floor"
    ),
    pytest.param(
        Observation(9, 0, 0, wall=wall("2026-06-01T23:00:00")), Policy(schedules=(NIGHT,)), Memory(), 2, id="ceiling"
    ),
    pytest.param(Observation(30, 5, 5, allowance=12, group="team"), Policy(max_workers=50), Memory(), 12, id="group"),
    pytest.param(Observation(4, 0, 0, forecast=9), Policy(max_workers=50), Memory(), 9, id="forecast"),
    pytest.param(Observation(9, 4, 4), Policy(pause="Up"), Memory(), 4, id="pause Up"),
    pytest.param(
        Observation(30, 5, 8, unschedulable=3, unschedulable_why="Insufficient cpu"),
        Policy(max_workers=50),
        Memory(),
        8,
        id="unschedulable",
    ),
    pytest.param(Observation(None, 4, 4), Policy(), Memory(), 4, id="lag unknown"),
    pytest.param(Observation(2, None, 6), Policy(), LATER, 6, id="heartbeats missing"),
    pytest.param(Observation(9, 0, 0), Policy(manual=3), Memory(), 3, id="manual"),
]


@pytest.mark.parametrize(("seen", "policy", "memory", "workers"), EXAMPLES)
def test_an_example_of_the_page_is_what_is_decided(
    seen: Observation, policy: Policy, memory: Memory, workers: int
) -> None:
    decision = decide(seen, policy, memory, NOW)
    assert decision.target == workers, decision.message
    assert f"`{decision.message}`" in PAGE, f"the page does not say: {decision.message}"
