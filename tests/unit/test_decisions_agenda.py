"""The agenda of looks: pools at zero first, nobody forgotten, nobody more often than its spacing."""

from hypothesis import given
from hypothesis import strategies as st
from millpond_operator.decisions.agenda import Agenda


def urgent_if_upper(key: str) -> bool:
    return key.isupper()


def test_pools_at_zero_come_first_and_equals_in_the_order_in_which_they_asked() -> None:
    agenda: Agenda[str] = Agenda(gather=0.01, spacing=0.2)
    for key in ("a", "B", "c", "D"):
        agenda.ask(key, 1.0)
    assert agenda.take(1.005, urgent_if_upper) == []
    assert agenda.take(1.01, urgent_if_upper) == ["B", "D", "a", "c"]
    assert agenda.next_due() is None


def test_a_pool_that_asks_again_at_once_waits_its_spacing_and_no_longer() -> None:
    agenda: Agenda[str] = Agenda(gather=0.01, spacing=0.2)
    agenda.ask("a", 1.0)
    assert agenda.take(1.01, urgent_if_upper) == ["a"]
    agenda.ask("a", 1.02)
    assert agenda.next_due() == 1.01 + 0.2
    assert agenda.take(1.2, urgent_if_upper) == []
    assert agenda.take(1.22, urgent_if_upper) == ["a"]
    agenda.ask("a", 9.0)
    assert agenda.next_due() == 9.01


def test_a_pool_that_is_gone_is_not_looked_at() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.ask("a", 1.0)
    agenda.forget("a")
    assert agenda.take(9.0, urgent_if_upper) == []


steps = st.lists(st.tuples(st.sampled_from("abCD"), st.floats(0.0, 0.3)), max_size=60)


@given(steps)
def test_every_ask_is_answered_and_no_pool_is_looked_at_more_often_than_its_spacing(
    moves: list[tuple[str, float]],
) -> None:
    agenda: Agenda[str] = Agenda(gather=0.01, spacing=0.2)
    now, open_asks, last = 0.0, set[str](), dict[str, float]()
    for key, wait in [*moves, ("a", 1.0)]:
        agenda.ask(key, now)
        open_asks.add(key)
        now += wait
        taken = agenda.take(now, urgent_if_upper)
        assert taken == sorted(taken, key=lambda one: not one.isupper())
        for one in taken:
            assert now - last.get(one, -1.0) >= 0.2 - 1e-9
            last[one] = now
            open_asks.remove(one)
    assert (
        agenda.take(now + 1.0, urgent_if_upper)
        == agenda.take(now, urgent_if_upper) + sorted(open_asks, key=lambda one: not one.isupper())
        or set(open_asks) == set()
    )
    assert len(agenda) == 0
