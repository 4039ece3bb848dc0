"""What a worker asks its queue for: work-conserving, in turn, and never in vain for long."""

from hypothesis import given
from hypothesis import strategies as st
from millpond.worker.agenda import EMPTY_FOR, Agenda, Line
from millpond.worker.turns import Turns

HIGH, LOW = Line("high"), Line("low")


def agenda(**weights: int) -> Agenda:
    weights = weights or {"high": 5, "low": 1}
    return Agenda(Turns(weights), tuple(weights))


class Queue:
    """What really waits: answers what an agenda asks, as the server does."""

    def __init__(self, waiting: dict[Line, int]) -> None:
        self.waiting = dict(waiting)
        self.served: list[Line] = []
        self.vain = 0

    def serve(self, one: Agenda, free: int, now: float, probes: int = 0) -> int:
        """Ask until the slots are full or nothing is planned any more; how many slots stay free."""
        while free > 0 and (plan := one.plan(free, now, probes=probes)):
            assert sum(plan.values()) <= free
            probes = 0
            for line, asked in plan.items():
                got = min(asked, self.waiting.get(line, 0))
                self.vain += got == 0
                self.waiting[line] = self.waiting.get(line, 0) - got
                self.served += [line] * got
                one.note(line, asked, got, now)
                free -= got
        return free


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(0, 30), min_size=4), st.integers(1, 40))
def test_no_slot_stays_free_while_a_class_has_a_task(waiting: dict[str, int], free: int) -> None:
    queue = Queue({Line(name): count for name, count in waiting.items()})
    left = queue.serve(agenda(a=5, b=3, c=1, d=1), free, now=0.0)
    assert left == max(0, free - sum(waiting.values()))


def test_a_class_found_empty_is_left_alone_for_a_moment() -> None:
    one, queue = agenda(), Queue({LOW: 100})
    for step in range(10):
        assert queue.serve(one, 1, now=step * EMPTY_FOR / 20) == 0
    assert queue.vain == 1
    queue.waiting[HIGH] = 1
    queue.serve(one, 1, now=2 * EMPTY_FOR)
    assert queue.served[-1] == HIGH


def test_a_class_at_which_a_pull_waits_is_not_asked() -> None:
    one = agenda()
    one.watch("high", watched=True)
    assert one.plan(3, 0.0) == {LOW: 3}
    one.watch("high", watched=False)
    assert HIGH in one.plan(6, 0.0)


@given(st.integers(1, 30), st.integers(1, 12))
def test_lanes_of_a_class_take_turns(rounds: int, lanes: int) -> None:
    one = agenda(only=1)
    lines = [Line("only", f"{number:x}") for number in range(lanes)]
    one.see(dict.fromkeys(lines, 1000))
    queue = Queue(dict.fromkeys(lines, 1000))
    queue.serve(one, rounds * lanes, now=0.0)
    counts = [queue.served.count(line) for line in lines]
    assert max(counts) - min(counts) <= 1


def test_a_lane_whose_tasks_are_all_in_flight_costs_one_question_and_then_one_a_probe() -> None:
    one, lane, other = agenda(only=1), Line("only", "1"), Line("only", "2")
    one.see({lane: 1, other: 50})
    queue = Queue({other: 50})
    queue.serve(one, 10, now=0.0)
    # The class's own line and the lane, once each.
    assert queue.vain == 2
    queue.serve(one, 10, now=0.0)
    assert queue.vain == 2
    queue.serve(one, 1, now=0.0, probes=1)
    assert queue.vain == 3


def test_a_task_that_came_unnoticed_is_found_by_a_probe() -> None:
    """The lane's count never changed: its old task ended and a new one came between two looks."""
    one, lane, other = agenda(only=1), Line("only", "1"), Line("only", "2")
    one.see({lane: 1, other: 50})
    Queue({other: 1}).serve(one, 3, now=0.0)
    assert not one.see({lane: 1, other: 50})
    queue = Queue({lane: 1, other: 50})
    queue.serve(one, 1, now=0.0, probes=1)
    assert queue.served == [lane]


def test_a_lane_that_grew_and_one_that_was_told_of_are_asked_again() -> None:
    one, lane = agenda(only=1), Line("only", "1")
    one.see({lane: 1})
    Queue({}).serve(one, 2, now=0.0)
    assert not one.is_ready(lane)
    assert one.see({lane: 2})
    assert one.is_ready(lane)
    Queue({}).serve(one, 2, now=0.0)
    assert one.wake(lane)
    assert one.is_ready(lane)
    assert not one.wake(Line("unknown", "1"))


def test_a_look_that_is_older_than_a_wake_up_does_not_hide_it() -> None:
    one, lane = agenda(only=1), Line("only", "1")
    one.wake(lane)
    one.see({})
    assert one.is_ready(lane)
    one.see({lane: 1})
    one.see({})
    assert not one.is_ready(lane)
    assert not one.has_lanes
