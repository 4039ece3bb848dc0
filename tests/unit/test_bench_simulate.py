"""The figures in docs/scaling.md are those of the code: the two shortest traces are played again."""

import pytest
from millpond_scaling.simulate.contest import dominated
from millpond_scaling.simulate.report import svg
from millpond_scaling.simulate.traces import SHAPES

from bench.simulate import PAGE, PLOTS, SEED, play, section

STALE = "the page is out of date: run `make bench-simulate` and commit"


@pytest.mark.parametrize("name", ["spike", "herd"])
def test_the_page_shows_what_the_code_does_and_millpond_as_it_comes_is_not_dominated(name: str) -> None:
    outcomes = play(name, SEED)
    assert section(name, outcomes) in PAGE.read_text(encoding="utf-8"), STALE
    assert (PLOTS / f"simulate-{name}.svg").read_text(encoding="utf-8") == svg(SHAPES[name].about, outcomes), STALE
    assert not [rival for ours, rival in dominated(outcomes) if ours.policy == "Millpond"]
    assert sum(one.told_busy + one.interrupted + one.unfinished for one in outcomes[:3]) == 0
