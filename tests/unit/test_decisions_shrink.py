"""Which workers go: the right ones, never more than asked, and never one that works."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_operator.decisions.shrink import Candidate, Step, decide_victims


def idle(name: str, started: float = 0.0) -> Candidate:
    return Candidate(name, "Idle", started=started)


def busy(name: str, in_flight: int = 1, started: float = 0.0) -> Candidate:
    return Candidate(name, "Busy", in_flight, started)


RETIRE, ASK, DRAIN = Step.RETIRE, Step.ASK, Step.DRAIN


@pytest.mark.parametrize(
    ("candidates", "surplus", "forced", "steps"),
    [
        pytest.param([idle("a", 1), idle("b", 2)], 1, False, [("b", ASK)], id="two idle, one too many → the newest"),
        pytest.param([busy("a"), idle("b")], 2, False, [("b", ASK)], id="two too many, one busy → the idle one alone"),
        pytest.param([busy("a"), busy("b")], 2, False, [], id="all busy → nobody"),
        pytest.param(
            [busy("a", 3), busy("b", 1)], 1, True, [("b", DRAIN)], id="all busy, forced → the least busy drains"
        ),
        pytest.param(
            [Candidate("d", "Draining"), idle("a")], 1, False, [("d", RETIRE)], id="one drained already → it goes first"
        ),
        pytest.param(
            [Candidate("d", "Draining", 2), idle("a"), idle("b")],
            1,
            False,
            [],
            id="one still finishing counts as going",
        ),
        pytest.param(
            [Candidate("s", "Starting", stuck=True), busy("a")],
            1,
            False,
            [("s", RETIRE)],
            id="cannot start → it goes first",
        ),
        pytest.param(
            [Candidate("s", "Starting"), idle("a")], 1, False, [], id="one starting → wait, or the ReplicaSet takes it"
        ),
        pytest.param(
            [Candidate("x", "Idle", fresh=False), busy("a")],
            1,
            False,
            [],
            id="a silent idle worker may be busy → stays",
        ),
        pytest.param(
            [Candidate("g", "Idle", going=True), busy("a")], 1, False, [], id="one that goes is not asked again"
        ),
        pytest.param(
            [Candidate("u", "Busy", 1, ready=False), idle("a")],
            1,
            False,
            [],
            id="a busy one's probe fails → wait, or the ReplicaSet takes it",
        ),
        pytest.param(
            [Candidate("d", "Stopped", ready=False), busy("a")],
            1,
            False,
            [("d", RETIRE)],
            id="a drained one that is not ready goes first anyway",
        ),
        pytest.param([], 3, True, [], id="no pods at all"),
        pytest.param([idle("a")], 0, False, [], id="nothing too many"),
    ],
)
def test_the_choice(candidates: list[Candidate], surplus: int, forced: bool, steps: list[tuple[str, Step]]) -> None:
    assert list(decide_victims(candidates, surplus, forced=forced).steps) == steps


def test_what_keeps_it_from_shrinking_is_said() -> None:
    assert decide_victims([busy("a"), busy("b")], 2, forced=False).held == "2 more would go, but are busy"


workers = st.lists(
    st.builds(
        Candidate,
        name=st.uuids().map(str),
        state=st.sampled_from(["Starting", "Idle", "Busy", "Leased", "Draining", "Stopped", "Lost"]),
        in_flight=st.integers(0, 5),
        started=st.floats(0, 1e6),
        fresh=st.booleans(),
        going=st.booleans(),
    ),
    max_size=15,
    unique_by=lambda worker: worker.name,
).map(lambda found: [_sensible(worker) for worker in found])


def _sensible(worker: Candidate) -> Candidate:
    """An idle worker runs nothing, a busy one runs something."""
    if worker.state in ("Idle", "Stopped", "Starting"):
        return Candidate(worker.name, worker.state, 0, worker.started, worker.fresh, going=worker.going)
    if worker.state in ("Busy", "Leased"):
        running = max(1, worker.in_flight)
        return Candidate(worker.name, worker.state, running, worker.started, worker.fresh, going=worker.going)
    return worker


@given(workers, st.integers(0, 20), st.booleans())
def test_a_working_worker_is_never_removed_nor_asked_to_stop_at_once(
    candidates: list[Candidate], surplus: int, forced: bool
) -> None:
    known = {worker.name: worker for worker in candidates}
    for name, step in decide_victims(candidates, surplus, forced=forced).steps:
        worker = known[name]
        assert not worker.going
        if step in (RETIRE, ASK):
            assert worker.in_flight == 0
            assert worker.fresh
        else:
            assert forced


@given(workers, st.integers(0, 20), st.booleans())
def test_no_more_workers_go_than_are_too_many(candidates: list[Candidate], surplus: int, forced: bool) -> None:
    steps = decide_victims(candidates, surplus, forced=forced).steps
    assert len(steps) <= surplus
    assert len({name for name, _ in steps}) == len(steps)
