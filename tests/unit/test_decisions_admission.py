"""Full queues: the oldest Task is admitted first, in whatever order they come."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from millpond_operator.decisions.admission import Line

tasks = st.lists(st.tuples(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 5)), unique_by=lambda t: t[0])


@given(tasks, st.sets(st.text("abcdef", min_size=1, max_size=3)), st.randoms(use_true_random=False))
def test_the_oldest_goes_first_and_who_left_has_no_turn(
    found: list[tuple[str, int]], left: set[str], chance: Random
) -> None:
    line: Line[str] = Line()
    # The queue's refusals come back in any order.
    shuffled = list(enumerate(found))
    chance.shuffle(shuffled)
    for seen, (name, second) in shuffled:
        line.join(name, (f"t{second}", seen))
    for name in left:
        line.leave(name)
    order = []
    while (head := line.head()) is not None:
        order.append(head)
        assert line.leave(head)
    # Of the same second the one seen first: sorting is stable.
    assert order == [name for name, _ in sorted(found, key=lambda task: task[1]) if name not in left]


def test_only_the_head_tries_and_an_older_one_goes_before_it() -> None:
    line: Line[str] = Line()
    assert line.may_try("b", ("t2", 5))
    line.join("b", ("t2", 5))
    assert line.may_try("b", ("t2", 5))
    assert not line.may_try("c", ("t3", 4))
    assert not line.may_try("d", ("t2", 6))
    assert line.may_try("a", ("t1", 7))
    assert line.may_try("a", ("t2", 4))
    line.join("c", ("t3", 4))
    assert not line.leave("c")
    assert line.leave("b")
    assert line.head() is None


def test_who_waits_and_comes_again_keeps_its_turn() -> None:
    line: Line[str] = Line()
    for name in ("a", "b", "a"):
        line.join(name, ("t1", 1))
    assert (line.head(), len(line)) == ("a", 2)
