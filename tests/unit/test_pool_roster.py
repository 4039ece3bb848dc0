"""Who gets which member: poolboy's rules, and that nothing leaks whatever happens in whatever order."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from millpond.pool.roster import Dismiss, Grant, Refusal, Refuse, Roster, Start, Step


def granted(steps: list[Step[int, int]]) -> list[tuple[int, int]]:
    return [(step.claim, step.member) for step in steps if isinstance(step, Grant)]


def make_roster(
    size: int, max_overflow: int = 0, strategy: Literal["lifo", "fifo"] = "lifo", idle: int | None = None
) -> Roster[int, int]:
    roster: Roster[int, int] = Roster(size, max_overflow, strategy)
    roster.idle.extend(range(100, 100 + (size if idle is None else idle)))
    return roster


# ---- poolboy's rules, one by one (README and src/poolboy.erl of devinus/poolboy 1.5.2)


@pytest.mark.parametrize(("strategy", "next_one"), [("lifo", 102), ("fifo", 100)])
def test_the_strategy_orders_idle_members(strategy: Literal["lifo", "fifo"], next_one: int) -> None:
    assert granted(make_roster(3, strategy=strategy).claim(1)) == [(1, next_one)]


@pytest.mark.parametrize("strategy", ["lifo", "fifo"])
def test_waiters_are_served_in_their_order_whatever_the_strategy(strategy: Literal["lifo", "fifo"]) -> None:
    roster = make_roster(1, strategy=strategy)
    roster.claim(1)
    assert roster.claim(2) == roster.claim(3) == []
    assert granted(roster.give_back(100)) == [(2, 100)]
    assert granted(roster.give_back(100)) == [(3, 100)]


def test_who_would_not_wait_is_refused_only_when_all_is_in_use() -> None:
    roster = make_roster(1, 1)
    roster.claim(1)
    assert roster.claim(2, patient=False) == [Start()]
    assert roster.claim(3, patient=False) == [Refuse(3, Refusal.FULL)]


def test_overflow_is_dismissed_at_check_in_unless_somebody_waits() -> None:
    roster = make_roster(1, 1)
    roster.claim(1)
    roster.claim(2)
    assert granted(roster.started(7)) == [(2, 7)]
    roster.claim(3)
    assert granted(roster.give_back(7)) == [(3, 7)]
    assert roster.give_back(100) == [Dismiss(100)]
    assert roster.give_back(7) == []
    assert list(roster.idle) == [7]


def test_a_second_check_in_is_ignored() -> None:
    roster = make_roster(1)
    roster.claim(1)
    roster.give_back(100)
    assert roster.give_back(100) == []
    assert list(roster.idle) == [100]


def test_a_member_that_dies_idle_is_replaced() -> None:
    roster = make_roster(2)
    assert roster.died(100) == [Start()]
    assert roster.died(100) == []


def test_a_member_that_dies_in_use_is_replaced_for_a_waiter_and_as_overflow_for_nobody() -> None:
    roster = make_roster(1, 1)
    roster.claim(1)
    roster.claim(2)
    roster.started(7)
    assert roster.died(7) == []
    roster.claim(3)
    roster.started(8)
    roster.claim(4)
    assert roster.died(8) == [Start()]
    assert granted(roster.started(9)) == [(4, 9)]


STATES = [
    pytest.param(2, 0, 0, "ready", id="a member is idle"),
    pytest.param(1, 0, 1, "full", id="all in use, no overflow allowed"),
    pytest.param(1, 2, 1, "overflow", id="all in use, overflow allowed"),
    pytest.param(1, 2, 2, "overflow", id="overflow in use, more allowed"),
    pytest.param(1, 2, 3, "full", id="all overflow in use"),
]


@pytest.mark.parametrize(("size", "max_overflow", "claims", "state"), STATES)
def test_the_states_name_is_poolboys(size: int, max_overflow: int, claims: int, state: str) -> None:
    roster = make_roster(size, max_overflow)
    for number in range(claims):
        if Start() in roster.claim(number):
            roster.started(number)
    status = roster.status()
    assert (status.state, status.monitors) == (state, claims)
    assert status.overflow == max(0, claims - size)


# ---- what is ours: starts take their time, and fail


def test_a_check_in_serves_who_waits_for_a_slow_start_and_the_late_member_is_dismissed() -> None:
    roster = make_roster(1, 1)
    roster.claim(1)
    assert roster.claim(2) == [Start()]
    assert granted(roster.give_back(100)) == [(2, 100)]
    assert roster.started(7) == [Dismiss(7)]


def test_after_a_failed_start_none_is_asked_for_until_the_retry() -> None:
    roster = make_roster(1)
    assert roster.died(100) == [Start()]
    assert roster.failed() == []
    assert roster.claim(1) == []
    assert roster.claim(2, patient=False) == [Refuse(2, Refusal.FAILED)]
    assert roster.retry() == [Start()]
    assert granted(roster.started(7)) == [(1, 7)]


def test_a_start_that_goes_well_ends_the_rest_after_one_that_did_not() -> None:
    roster = make_roster(2)
    assert roster.died(100) + roster.died(101) == [Start(), Start()]
    assert roster.failed() == []
    assert roster.started(7) == [Start()]


def test_who_would_not_wait_takes_the_member_that_is_being_started_for_nobody() -> None:
    roster = make_roster(1)
    roster.died(100)
    assert roster.claim(1, patient=False) == []
    assert granted(roster.started(7)) == [(1, 7)]


def test_who_would_not_wait_is_told_that_the_start_failed() -> None:
    roster = make_roster(1, 1)
    roster.claim(1)
    roster.claim(2, patient=False)
    assert roster.failed() == [Refuse(2, Refusal.FAILED)]


def test_a_claim_withdrawn_after_its_grant_leaks_nothing() -> None:
    roster = make_roster(1)
    roster.claim(1)
    roster.claim(2)
    assert granted(roster.withdraw(1)) == [(2, 100)]
    assert roster.withdraw(2) == []
    assert list(roster.idle) == [100]


@pytest.mark.parametrize(("size", "overflow"), [(0, 0), (-1, 3), (1, -1)])
def test_a_pool_without_room_is_refused(size: int, overflow: int) -> None:
    with pytest.raises(ValueError, match="room for one member"):
        Roster(size, overflow)


# ---- against a model of poolboy, in which a start takes no time


@dataclass
class Poolboy:
    """poolboy's rules as its README tells them, written down a second time and in another way."""

    size: int
    most: int
    lifo: bool
    idle: list[int]
    lent: dict[int, int] = field(default_factory=dict)
    queue: deque[int] = field(default_factory=deque)
    overflow: int = 0

    def checkout(self, who: int, fresh: int) -> None:
        if self.idle:
            self.lent[self.idle.pop(-1 if self.lifo else 0)] = who
        elif self.overflow < self.most:
            self.overflow += 1
            self.lent[fresh] = who
        else:
            self.queue.append(who)

    def checkin(self, member: int) -> None:
        if member not in self.lent:
            return
        del self.lent[member]
        if self.queue:
            self.lent[member] = self.queue.popleft()
        elif self.overflow:
            self.overflow -= 1
        else:
            self.idle.append(member)

    def death(self, member: int, fresh: int) -> None:
        if member in self.idle:
            self.idle.remove(member)
            self.idle.append(fresh)
        elif member in self.lent:
            del self.lent[member]
            if self.queue:
                self.lent[fresh] = self.queue.popleft()
            elif self.overflow:
                self.overflow -= 1
            else:
                self.idle.append(fresh)


acts = st.lists(st.tuples(st.sampled_from(["checkout", "checkin", "death"]), st.integers(0, 7)), max_size=60)


@settings(max_examples=300)
@given(st.integers(1, 4), st.integers(0, 3), st.booleans(), acts)
def test_with_starts_that_take_no_time_it_is_poolboy(
    size: int, most: int, lifo: bool, script: list[tuple[str, int]]
) -> None:
    ours = make_roster(size, most, "lifo" if lifo else "fifo")
    model = Poolboy(size, most, lifo, list(ours.idle))
    for number, (act, which) in enumerate(script):
        fresh = 1000 + number
        members = sorted({*model.lent, *model.idle})
        if act == "checkout":
            model.checkout(number, fresh)
            steps = ours.claim(number)
        elif act == "checkin":
            member = members[which % len(members)]
            model.checkin(member)
            steps = ours.give_back(member)
        else:
            member = members[which % len(members)]
            model.death(member, fresh)
            steps = ours.died(member)
        for _ in [step for step in steps if isinstance(step, Start)]:
            ours.started(fresh)
        assert ours.lent == model.lent
        assert list(ours.waiting) == list(model.queue)
        assert list(ours.idle) == model.idle
        assert ours.status().overflow == model.overflow


# ---- whatever happens in whatever order


class RosterMachine(RuleBasedStateMachine):
    """Starts that take their time, fail, and come when nobody wants them any more."""

    @initialize(size=st.integers(0, 3), overflow=st.integers(0, 3), lifo=st.booleans())
    def begin(self, size: int, overflow: int, lifo: bool) -> None:
        self.roster: Roster[int, int] = Roster(size, overflow if size else overflow + 1, "lifo" if lifo else "fifo")
        self.order: list[int] = []
        """Claims that wait, as this test has seen them come."""
        self.served: set[int] = set()
        self.alive: set[int] = set()
        self.asked = self.next = 0
        self.take(self.roster.retry())

    def take(self, steps: list[Step[int, int]]) -> None:
        for step in steps:
            match step:
                case Start():
                    self.asked += 1
                case Grant(claim, member):
                    assert claim not in self.served
                    if claim in self.order:
                        assert self.order[0] == claim
                        self.order.pop(0)
                    self.served.add(claim)
                    assert member in self.alive
                case Refuse(claim, _):
                    if claim in self.order:
                        self.order.remove(claim)
                case Dismiss(member):
                    self.alive.remove(member)

    @rule(patient=st.booleans())
    def claim(self, patient: bool) -> None:
        self.next += 1
        steps = self.roster.claim(self.next, patient=patient)
        if not any(isinstance(step, Grant | Refuse) for step in steps):
            self.order.append(self.next)
        self.take(steps)

    @rule(pick=st.integers(0, 20))
    def withdraw(self, pick: int) -> None:
        claims = [*self.roster.waiting, *self.roster.lent.values(), 0]
        claim = claims[pick % len(claims)]
        if claim in self.order:
            self.order.remove(claim)
        self.take(self.roster.withdraw(claim))

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0, 20), twice=st.booleans())
    def give_back(self, pick: int, twice: bool) -> None:
        member = sorted(self.alive)[pick % len(self.alive)]
        self.take(self.roster.give_back(member))
        if twice and member in self.roster.idle:
            assert self.roster.give_back(member) == []

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0, 20), young=st.booleans())
    def die(self, pick: int, young: bool) -> None:
        member = sorted(self.alive)[pick % len(self.alive)]
        self.alive.remove(member)
        self.take(self.roster.died(member, young=young))

    @precondition(lambda self: self.asked)
    @rule()
    def started(self) -> None:
        self.asked -= 1
        self.next += 1
        self.alive.add(self.next)
        self.take(self.roster.started(self.next))

    @precondition(lambda self: self.asked)
    @rule()
    def failed(self) -> None:
        self.asked -= 1
        self.take(self.roster.failed())

    @rule()
    def retry(self) -> None:
        self.take(self.roster.retry())

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        roster = self.roster
        assert sorted([*roster.idle, *roster.lent]) == sorted(self.alive)
        assert len(set(roster.lent.values())) == len(roster.lent)
        assert list(roster.waiting) == self.order
        assert roster.starting == self.asked
        assert roster.members <= roster.size + roster.max_overflow
        assert len(roster.idle) <= roster.size
        assert not (roster.idle and roster.waiting)

    @invariant()
    def who_waits_waits_for_something(self) -> None:
        roster = self.roster
        if not roster.resting:
            assert roster.members >= roster.size
            has_room = roster.members < roster.size + roster.max_overflow
            assert not roster.waiting or roster.starting >= len(roster.waiting) or not has_room

    def teardown(self) -> None:
        """When all starts go well and all give back, every waiter is served and `size` members are idle."""
        if not hasattr(self, "roster"):
            return
        self.retry()
        while self.asked or self.roster.lent:
            if self.asked:
                self.started()
            for member in list(self.roster.lent):
                self.take(self.roster.give_back(member))
        assert self.order == []
        assert len(self.roster.idle) == self.roster.size


TestRosterMachine = RosterMachine.TestCase
