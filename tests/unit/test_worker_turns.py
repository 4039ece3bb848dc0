"""The shares of priority classes: whatever the weights and whoever waits, they converge, nobody starves."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond.worker.turns import Turns
from millpond_api.shares import class_weights

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=6).map(
    lambda found: {f"c{place}": weight for place, weight in enumerate(found)}
)
PHASE = st.floats(0.0, 1.0)


def serve(turns: Turns, waiting: list[str], count: int) -> list[str]:
    """Who is served when all of `waiting` always have something."""
    served = []
    for _ in range(count):
        served.append(turns.pick(waiting))
        turns.charge(served[-1])
    return served


@given(WEIGHTS, PHASE)
def test_backlogged_classes_get_their_weights_within_one_task_of_each(weights: dict[str, int], phase: float) -> None:
    total = sum(weights.values())
    counts = Counter(serve(Turns(weights, phase=phase), list(weights), 10 * total))
    assert all(abs(counts[name] - 10 * weight) <= len(weights) for name, weight in weights.items())


@given(WEIGHTS, PHASE)
def test_no_backlogged_class_waits_longer_than_its_cycle(weights: dict[str, int], phase: float) -> None:
    served = serve(Turns(weights, phase=phase), list(weights), 6 * sum(weights.values()))
    for name, weight in weights.items():
        most = math.ceil(sum(weights.values()) / weight) + len(weights)
        places = [-1, *(place for place, who in enumerate(served) if who == name)]
        assert max(after - before for before, after in pairwise(places)) <= most


@given(WEIGHTS, PHASE, st.data())
def test_whoever_waits_somebody_who_waits_is_served(weights: dict[str, int], phase: float, data: st.DataObject) -> None:
    turns = Turns(weights, phase=phase)
    for _ in range(30):
        waiting = data.draw(st.lists(st.sampled_from(list(weights)), min_size=1, unique=True))
        picked = turns.pick(waiting)
        assert picked in waiting
        turns.charge(picked)


@given(WEIGHTS, st.integers(0, 500), PHASE)
def test_a_class_that_comes_back_is_next_and_makes_up_for_nothing(
    weights: dict[str, int], away: int, phase: float
) -> None:
    """However long it had nothing (a cycle or more): one turn at once, then its share of what follows."""
    weights = {"idle": 1, **weights}
    turns = Turns(weights, phase=phase)
    serve(turns, list(weights), 2 * sum(weights.values()))
    serve(turns, [name for name in weights if name != "idle"], 2 * sum(weights.values()) + away)
    served = serve(turns, list(weights), 5 * sum(weights.values()))
    assert "idle" in served[: len(weights)]
    assert served.count("idle") <= 5 + 2


def test_strict_serves_the_first_class_that_has_something() -> None:
    turns = Turns({"high": 1, "low": 1000}, strict=True)
    assert serve(turns, ["low", "high"], 5) == ["high"] * 5
    assert turns.pick(["low"]) == "low"


def test_a_copy_changes_nothing() -> None:
    turns = Turns({"a": 1, "b": 1})
    twin = turns.copy()
    twin.charge(twin.pick(["a", "b"]))
    assert (turns.pick(["a", "b"]), twin.pick(["a", "b"])) == ("a", "b")


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": -1.0}])
def test_a_class_without_weight_is_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        Turns(weights)


def test_plain_names_weigh_twice_the_next_and_some_weights_make_the_others_one() -> None:
    names = ("urgent", "default", "bulk")
    assert class_weights(names, {}) == {"urgent": 4, "default": 2, "bulk": 1}
    assert class_weights(names, {"urgent": 5}) == {"urgent": 5, "default": 1, "bulk": 1}
    assert class_weights(("default",), {}) == {"default": 1}
