"""A group's limit shared among its pools: tables, and what holds for every claim."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond_scaling.budget import Claim, share


def pools(**wanted: int) -> list[Claim]:
    return [Claim(name, number) for name, number in wanted.items()]


TABLE = [
    pytest.param(10, pools(a=3, b=4), {"a": 3, "b": 4}, id="enough for all"),
    pytest.param(10, pools(a=8, b=8), {"a": 5, "b": 5}, id="equals share equally"),
    pytest.param(10, pools(a=2, b=8, c=8), {"a": 2, "b": 4, "c": 4}, id="who wants little gets it, the rest is shared"),
    pytest.param(10, pools(a=8, b=8, c=8), {"a": 4, "b": 3, "c": 3}, id="the odd one goes by name"),
    pytest.param(
        10,
        [Claim("a", 8, 3), Claim("b", 8, 3), Claim("c", 8, 4)],
        {"a": 3, "b": 3, "c": 4},
        id="the odd one goes to who has it already",
    ),
    pytest.param(
        10,
        [Claim("a", 8, priority=1), Claim("b", 8, priority=9), Claim("c", 8, priority=1)],
        {"a": 1, "b": 8, "c": 1},
        id="a higher priority goes first",
    ),
    pytest.param(
        10,
        [Claim("a", 8, priority=1, min_workers=3), Claim("b", 20, priority=9)],
        {"a": 3, "b": 7},
        id="a floor comes before others' extra",
    ),
    pytest.param(
        4,
        [Claim("a", 8, min_workers=3), Claim("b", 8, priority=9, min_workers=3)],
        {"a": 1, "b": 3},
        id="too little for all floors: the higher priority's first",
    ),
    pytest.param(
        10,
        [Claim("a", 8, 8, busy=8), Claim("b", 8, priority=9)],
        {"a": 8, "b": 2},
        id="what is busy is not taken away, not even for a higher priority",
    ),
    pytest.param(
        10, [Claim("a", 8, 8, busy=3), Claim("b", 8, priority=9)], {"a": 3, "b": 7}, id="what is idle is taken away"
    ),
    pytest.param(
        10, [Claim("a", 8, 8, busy=6), Claim("b", 8)], {"a": 6, "b": 4}, id="busy over the fair share: not replaced"
    ),
    pytest.param(4, [Claim("a", 8, 8, busy=6), Claim("b", 8)], {"a": 6, "b": 0}, id="more is busy than the limit"),
    pytest.param(
        10, [Claim("a", 1, 8, busy=6), Claim("b", 8)], {"a": 6, "b": 4}, id="busy workers that are wanted no more stay"
    ),
    pytest.param(0, pools(a=8, b=8), {"a": 0, "b": 0}, id="limit 0"),
    pytest.param(10, [], {}, id="nobody"),
    pytest.param(9, [Claim("a", 20, weight=2.0), Claim("b", 20)], {"a": 6, "b": 3}, id="a weight of 2 gets twice"),
    pytest.param(3, [Claim("a", 9, weight=3.0), Claim("b", 9)], {"a": 3, "b": 0}, id="of few the heavy gets its part"),
    pytest.param(
        9, [Claim("a", 3, weight=2.0), Claim("b", 20)], {"a": 3, "b": 6}, id="a weight gets no more than is wanted"
    ),
]


@pytest.mark.parametrize(("limit", "claims", "allowances"), TABLE)
def test_the_limit_is_shared(limit: int, claims: list[Claim], allowances: dict[str, int]) -> None:
    assert {name: one.allowance for name, one in share(limit, claims).items()} == allowances


def test_what_is_busy_above_the_fair_share_is_told_to_finish_and_go() -> None:
    shares = share(10, [Claim("a", 8, 8, busy=8), Claim("b", 8)])
    assert (shares["a"].allowance, shares["a"].entitled) == (8, 5)
    assert (shares["b"].allowance, shares["b"].entitled) == (2, 5)


# ---- what holds always

SLOW = settings(max_examples=150)
counts = st.integers(0, 60)


@st.composite
def claims(draw: st.DrawFn, weights: st.SearchStrategy[float] = st.just(1.0)) -> list[Claim]:  # noqa: B008
    many = draw(st.integers(0, 7))
    made = []
    for index in range(many):
        current = draw(counts)
        made.append(
            Claim(
                f"pool{index}",
                draw(counts),
                current,
                draw(st.integers(0, current)),
                draw(st.integers(0, 10)),
                draw(st.integers(0, 2)),
                draw(weights),
            )
        )
    return made


@SLOW
@given(counts, claims(st.floats(0.25, 8)))
def test_allowances_add_up_to_the_limit_or_to_what_is_asked_or_busy(limit: int, claims: list[Claim]) -> None:
    shares = share(limit, claims)
    demand = sum(max(claim.wanted, claim.busy) for claim in claims)
    assert sum(one.allowance for one in shares.values()) == max(min(limit, demand), sum(claim.busy for claim in claims))
    assert sum(one.entitled for one in shares.values()) == min(limit, sum(claim.wanted for claim in claims))


@SLOW
@given(counts, claims(st.floats(0.25, 8)))
def test_nobody_gets_more_than_it_wants_nor_loses_what_is_busy(limit: int, claims: list[Claim]) -> None:
    shares = share(limit, claims)
    for claim in claims:
        assert claim.busy <= shares[claim.name].allowance <= max(claim.wanted, claim.busy)


@SLOW
@given(counts, claims())
def test_among_equals_nobody_has_two_more_than_who_wants_more(limit: int, claims: list[Claim]) -> None:
    """Max-min fairness: the poor could only be raised by a worker of somebody who has at most one more."""
    claims = [replace(claim, priority=0, min_workers=0) for claim in claims]
    shares = share(limit, claims)
    for poor in claims:
        for rich in claims:
            if shares[poor.name].allowance < poor.wanted and shares[rich.name].allowance > rich.busy:
                assert shares[rich.name].allowance <= shares[poor.name].allowance + 1


@SLOW
@given(counts, claims())
def test_a_lower_priority_has_extra_only_when_a_higher_wants_no_more(limit: int, claims: list[Claim]) -> None:
    shares = share(limit, claims)
    for low in claims:
        if shares[low.name].allowance > max(low.busy, low.min_workers):
            for high in claims:
                if high.priority > low.priority:
                    assert shares[high.name].allowance >= high.wanted


@SLOW
@given(counts, claims())
def test_floors_come_before_extra(limit: int, claims: list[Claim]) -> None:
    shares = share(limit, claims)
    if any(shares[claim.name].allowance < min(claim.min_workers, claim.wanted) for claim in claims):
        for claim in claims:
            assert shares[claim.name].allowance <= max(claim.busy, min(claim.min_workers, claim.wanted))


@SLOW
@given(counts, claims(), st.randoms(use_true_random=False))
def test_what_was_shared_stays_as_it_is_while_nothing_changes(limit: int, claims: list[Claim], order: object) -> None:
    """Each pool takes what it may; shared again, in another order, nothing moves."""
    first = share(limit, claims)
    settled = [replace(claim, current=first[claim.name].allowance) for claim in claims]
    again = share(limit, settled[::-1])
    assert again == share(limit, settled)
    assert {name: one.allowance for name, one in again.items()} == {name: one.allowance for name, one in first.items()}


@SLOW
@given(counts, claims())
def test_a_higher_limit_takes_nothing_from_anybody(limit: int, claims: list[Claim]) -> None:
    less, more = share(limit, claims), share(limit + 1, claims)
    assert all(more[name].allowance >= one.allowance for name, one in less.items())


def test_a_thousand_pools_and_a_limit_of_ten_thousand_take_no_ten_thousand_rounds() -> None:
    """Each claim is looked at some dozens of times: the level is found by halving."""
    looked = 0

    class Counted(Claim):
        def __getattribute__(self, name: str) -> object:
            nonlocal looked
            looked += name == "weight"
            return super().__getattribute__(name)

    shares = share(10_000, [Counted(f"pool{index:04}", 50) for index in range(1000)])
    assert {one.allowance for one in shares.values()} == {10}
    assert looked < 100 * 1000
