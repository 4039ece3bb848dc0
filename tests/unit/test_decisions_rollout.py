"""Rollouts: the bounds hold at every step, nobody busy is removed, and it ends."""

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_api.v1alpha1.rollout import Canary, Rollout
from millpond_operator.decisions.rollout import (
    Goal,
    Side,
    count_without_surge,
    decide_drains,
    decide_raises,
    describe,
    is_complete,
    make_goal,
)
from millpond_operator.decisions.shrink import Candidate, Step, is_serving

RETIRE, ASK, DRAIN = Step.RETIRE, Step.ASK, Step.DRAIN


def idle(name: str) -> Candidate:
    return Candidate(name, "Idle")


def busy(name: str, in_flight: int = 1) -> Candidate:
    return Candidate(name, "Busy", in_flight)


def side(version: str, role: str, *workers: Candidate, replicas: int | None = None) -> Side:
    asked = len(workers) if replicas is None else replicas
    return Side(version, role, asked, workers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("total", "rollout", "canary", "goal"),
    [
        pytest.param(4, {}, False, Goal(4, 4, 0, 1, 0), id="a Deployment's defaults: a quarter more, none less"),
        pytest.param(1, {}, False, Goal(1, 1, 0, 1, 0), id="one worker: one more beside it"),
        pytest.param(0, {}, False, Goal(0, 0, 0, 0, 0), id="at zero there is nothing to move"),
        pytest.param(5, {"maxSurge": 0, "maxUnavailable": "25%"}, False, Goal(5, 5, 0, 0, 1), id="one less at a time"),
        pytest.param(
            2,
            {"maxSurge": 0, "maxUnavailable": "25%"},
            False,
            Goal(2, 2, 0, 0, 1),
            id="rounded to nothing at all, one may be missing",
        ),
        pytest.param(10, {"canary": {"share": 20}}, True, Goal(10, 2, 8, 3, 0), id="a canary of 20 %"),
        pytest.param(3, {"canary": {"share": 10}}, True, Goal(3, 1, 2, 1, 0), id="a canary of at least one"),
        pytest.param(1, {"canary": {}}, True, Goal(1, 1, 1, 1, 0), id="one worker: the proven one stays beside it"),
        pytest.param(10, {"canary": {"share": 20}}, False, Goal(10, 10, 0, 3, 0), id="the canary was promoted"),
    ],
)
def test_the_goal(total: int, rollout: dict[str, object], canary: bool, goal: Goal) -> None:
    assert make_goal(total, Rollout.model_validate(rollout), canary=canary) == goal


@pytest.mark.parametrize(
    ("new", "old", "total", "raises"),
    [
        pytest.param(0, 4, 4, {"b": 1}, id="the surge first"),
        pytest.param(1, 4, 4, {}, id="no room until an old one is gone"),
        pytest.param(1, 3, 4, {"b": 2}, id="one gone, one more"),
        pytest.param(0, 0, 6, {"b": 6}, id="a pool at zero: all at once"),
        pytest.param(4, 0, 4, {}, id="all there"),
        pytest.param(3, 1, 8, {"b": 8}, id="scaled up meanwhile: the new version grows"),
    ],
)
def test_the_new_version_gets_what_the_surge_has_room_for(
    new: int, old: int, total: int, raises: dict[str, int]
) -> None:
    sides = [side("a", "old", replicas=old), side("b", "new", replicas=new)]
    assert decide_raises(sides, make_goal(total, Rollout(), canary=False)) == raises


@pytest.mark.parametrize(
    ("old", "new", "steps"),
    [
        pytest.param([idle("a"), idle("b")], [], (), id="nobody goes before a new one is ready"),
        pytest.param([idle("a"), busy("b")], [idle("x")], (("a", ASK),), id="one more serves: the idle one goes"),
        pytest.param([busy("a", 2), busy("b")], [idle("x")], (("b", DRAIN),), id="all busy: one takes nothing new"),
        pytest.param([busy("a"), Candidate("b", "Draining", 1)], [idle("x")], (), id="one finishes: no other goes"),
        pytest.param([Candidate("a", "Stopped"), busy("b")], [], (("a", RETIRE),), id="a drained one holds a place"),
        pytest.param(
            [Candidate("a", "Starting", stuck=True), busy("b")], [], (("a", RETIRE),), id="one that can't start goes"
        ),
        pytest.param(
            [Candidate("a", "Draining"), Candidate("b", "Starting")],
            [],
            (),
            id="one starts: removing the drained one might remove it instead",
        ),
        pytest.param(
            [Candidate("a", "Stopped"), Candidate("b", "Busy", 1, ready=False)],
            [idle("x")],
            (),
            id="a busy one's probe fails: the ReplicaSet would take it instead of the drained one",
        ),
        pytest.param([Candidate("a", "Idle", fresh=False), busy("b")], [idle("x")], (), id="a silent one is none"),
    ],
)
def test_old_workers_go_when_enough_others_serve(
    old: list[Candidate], new: list[Candidate], steps: tuple[tuple[str, Step], ...]
) -> None:
    sides = [side("a", "old", *old), side("b", "new", *new, replicas=1)]
    assert decide_drains(sides, make_goal(2, Rollout(), canary=False)).get("a", ()) == steps


@pytest.mark.parametrize(
    ("old", "total", "desired", "asked"),
    [
        pytest.param(1, 2, 1, 1, id="a surge"),
        pytest.param(3, 3, 3, 3, id="none yet"),
        pytest.param(2, 3, 3, 3, id="an old one has gone already"),
        pytest.param(5, 6, 2, 5, id="scaled up since"),
        pytest.param(2, 3, 0, 2, id="nothing was ever written"),
        pytest.param(3, 4, 9, 4, id="scaled down since"),
    ],
)
def test_the_surge_of_a_dead_leader_is_not_what_scaling_asked_for(
    old: int, total: int, desired: int, asked: int
) -> None:
    assert count_without_surge(old, total, desired) == asked


def test_a_deleted_pool_lets_everyone_finish_and_go() -> None:
    sides = [side("a", "old", idle("i"), busy("w"), Candidate("d", "Stopped"))]
    assert decide_drains(sides, Goal(0, 0, surge=0)) == {"a": (("d", RETIRE), ("i", ASK), ("w", DRAIN))}


def test_a_new_version_that_never_starts_leaves_the_old_ones_serving() -> None:
    stuck = Candidate("x", "Starting", stuck=True, ready=False)
    sides = [side("a", "old", idle("a"), busy("b")), side("b", "new", stuck)]
    goal = make_goal(2, Rollout(), canary=False)
    assert decide_drains(sides, goal) == {}
    assert decide_raises(sides, goal) == {}
    assert not is_complete(sides, goal)


def test_the_proven_version_keeps_its_share_beside_a_canary() -> None:
    goal = make_goal(4, Rollout(canary=Canary(share=25)), canary=True)
    kept = [idle("a"), idle("b"), busy("c"), busy("d")]
    sides = [side("a", "kept", *kept), side("b", "new", idle("x"))]
    assert decide_drains(sides, goal) == {"a": (("a", ASK),)}
    after = [side("a", "kept", *kept[1:]), side("b", "new", idle("x"))]
    assert decide_drains(after, goal) == {}
    assert decide_raises(after, goal) == {}


def test_the_sentence_says_who_is_left() -> None:
    sides = [side("a", "old", busy("a"), Candidate("b", "Draining", 1)), side("b", "new", idle("x"))]
    text = describe(sides, make_goal(2, Rollout(), canary=False))
    assert text == "1 of 2 new workers are ready, 2 old ones are left, 1 of them finishes what runs"


# ---- a model of the cluster: pods start, tasks end, workers answer


@dataclass
class World:
    """Two old versions and a new one. Times do not matter: every turn something random happens."""

    random: Random
    total: int
    rollout: Rollout
    versions: dict[str, dict[str, Candidate]] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    made: int = 0

    def add(self, version: str, state: str) -> None:
        self.made += 1
        name = f"{version}-{self.made}"
        running = 1 if state in ("Busy", "Leased", "Draining") else 0
        ready = state != "Starting"
        self.versions.setdefault(version, {})[name] = Candidate(name, state, running, ready=ready, version=version)

    def sides(self) -> list[Side]:
        found = []
        for version, workers in self.versions.items():
            role = "new" if version == "new" else "old"
            found.append(side(version, role, *workers.values(), replicas=self.replicas[version]))
        return found

    @property
    def serving(self) -> int:
        return sum(1 for one in self.sides() for worker in one.workers if is_serving(worker))

    def live(self) -> None:
        """Workers start, take tasks and end them."""
        for workers in self.versions.values():
            for name, worker in workers.items():
                if self.random.random() < 0.5:
                    continue
                if worker.state == "Starting":
                    workers[name] = replace(worker, state="Idle", ready=True)
                elif worker.state == "Idle":
                    workers[name] = replace(worker, state="Busy", in_flight=1)
                elif worker.state in ("Busy", "Leased"):
                    workers[name] = replace(worker, state="Idle", in_flight=0)
                elif worker.state == "Draining":
                    workers[name] = replace(worker, state="Stopped", in_flight=0)

    def step(self) -> None:
        """What the controller does, with the bounds looked at after each part."""
        goal = make_goal(self.total, self.rollout, canary=False)
        before = sum(self.replicas.values())
        for version, count in decide_raises(self.sides(), goal).items():
            assert count > self.replicas[version]
            for _ in range(count - self.replicas[version]):
                self.add(version, "Starting")
            self.replicas[version] = count
        assert sum(self.replicas.values()) <= max(before, goal.total + goal.surge)
        served = self.serving
        for version, steps in decide_drains(self.sides(), goal).items():
            for name, step in steps:
                self.apply(version, name, step)
        assert self.serving >= min(served, goal.total - goal.unavailable)

    def apply(self, version: str, name: str, step: Step) -> None:
        worker = self.versions[version][name]
        assert version != "new"
        if step is Step.DRAIN:
            self.versions[version][name] = replace(worker, state="Draining")
            return
        assert worker.in_flight == 0, "a busy worker was removed"
        del self.versions[version][name]
        self.replicas[version] -= 1


@settings(max_examples=200)
@given(
    st.integers(0, 2**32),
    st.integers(0, 12),
    st.sampled_from([{}, {"maxSurge": 0, "maxUnavailable": 1}, {"maxSurge": "100%"}, {"maxUnavailable": "30%"}]),
)
def test_every_rollout_ends_within_its_bounds_and_removes_nobody_busy(
    seed: int, total: int, rollout: dict[str, object]
) -> None:
    random = Random(seed)
    world = World(random, total, Rollout.model_validate(rollout))
    for _ in range(total):
        world.add(
            random.choice(["old-1", "old-2"]),
            random.choice(["Starting", "Idle", "Busy", "Leased", "Draining", "Stopped"]),
        )
    world.versions.setdefault("new", {})
    world.replicas = {version: len(workers) for version, workers in world.versions.items()}
    for turn in range(40 * (total + 2)):
        if turn == 3:
            world.total = max(0, total + random.randint(-3, 3))
        goal = make_goal(world.total, world.rollout, canary=False)
        if turn > 3 and is_complete(world.sides(), goal):
            break
        world.step()
        world.live()
    else:
        raise AssertionError(f"it did not end: {world.sides()}")
    # What scaling asks for less of while it goes is scaling's to take away from the new version.
    assert world.replicas["new"] >= world.total
