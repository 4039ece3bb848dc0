"""A shared ceiling: growth only into what nobody holds, higher priority first, and who gets what is told."""

from hypothesis import given
from hypothesis import strategies as st
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.groups import Member, decide_group_facts, grant, is_member


def member(name: str, held: int, demand: int, share: int, priority: int = 0) -> Member:
    return Member(PoolKey("ns", name), held, demand, share, priority)


def granted(limit: int, *members: Member) -> dict[str, int]:
    return {key.pool: workers for key, workers in grant(limit, members).items()}


def test_a_pool_grows_only_into_what_another_no_longer_holds() -> None:
    """a has to give 5 workers back, but they are busy: b gets what is free, and the rest when a has let go."""
    assert granted(10, member("a", 10, 10, 5), member("b", 0, 5, 5)) == {"a": 5, "b": 0}
    assert granted(10, member("a", 8, 10, 5), member("b", 0, 5, 5)) == {"a": 5, "b": 2}
    assert granted(10, member("a", 5, 10, 5), member("b", 2, 5, 5)) == {"a": 5, "b": 5}


def test_what_is_free_goes_to_the_higher_priority_first() -> None:
    low, high = member("a", 0, 9, 4), member("b", 0, 9, 6, priority=5)
    busy = member("c", 3, 0, 0)
    assert granted(10, low, high, busy) == {"a": 1, "b": 6, "c": 0}


@given(
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(-2, 2)), max_size=8),
)
def test_growth_never_takes_the_sum_over_the_ceiling(limit: int, pools: list[tuple[int, int, int]]) -> None:
    members = [member(f"p{n}", held, share, share, priority) for n, (held, share, priority) in enumerate(pools)]
    found = grant(limit, members)
    held = sum(one.held for one in members)
    after = sum(max(one.held, found[one.key]) for one in members)
    assert after <= max(limit, held)
    assert all(found[one.key] <= one.share for one in members)


def test_an_empty_selector_takes_every_pool_and_labels_must_all_match() -> None:
    assert is_member({}, {})
    assert is_member({"team": "a", "x": "1"}, {"team": "a"})
    assert not is_member({"team": "a"}, {"team": "a", "x": "1"})


def test_the_sentence_names_who_gets_less_than_it_needs() -> None:
    members = [member("low", 1, 6, 2), member("high", 4, 8, 8, priority=3), member("calm", 0, 0, 0)]
    facts = {fact.type: fact for fact in decide_group_facts(10, members)}
    assert (facts["Limited"].holds, facts["Limited"].reason) == (True, "MaxWorkers")
    assert facts["Limited"].message == "the pools need 14 workers, maxWorkers allows 10: low gets 2 of 6"
    assert facts["Ready"].message == "3 pools have 5 of 10 workers"
    calm = {fact.type: fact for fact in decide_group_facts(20, members)}
    assert (calm["Limited"].holds, calm["Limited"].reason) == (False, "Enough")
    assert {f.type: f for f in decide_group_facts(5, [])}["Ready"].reason == "NoPools"
