"""OTP's rules for supervisors, one by one, and what holds whatever ends in whatever order."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from millpond_api.supervision import (
    BRUTAL,
    INFINITY,
    AutoShutdown,
    BadSpecification,
    Child,
    Command,
    End,
    Ended,
    Exit,
    Flags,
    Restart,
    Start,
    Stop,
    Strategy,
    Supervisor,
    add_restart,
)

PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY


class House:
    """Drives a supervisor: starts and stops take no time, and what was done is noted in order."""

    def __init__(self, flags: Flags, children: Iterable[Child] = (), now: float = 0.0) -> None:
        self.supervisor = Supervisor.make(flags, children)
        self.done: list[str] = []
        self.broken: set[str] = set()
        """Children that cannot be started."""
        self.now = now
        self.obey(self.supervisor.begin(now))

    def obey(self, commands: list[Command]) -> None:
        todo = list(commands)
        while todo:
            match todo.pop(0):
                case Start(child) if child in self.broken:
                    self.done.append(f"!{child}")
                    todo += self.supervisor.start_failed(child, self.now)
                case Start(child):
                    self.done.append(f"+{child}")
                    todo += self.supervisor.started(child, self.now)
                case Stop(child):
                    self.done.append(f"-{child}")
                    todo += self.supervisor.exited(child, Exit.SHUTDOWN, self.now)
                case Ended(why):
                    self.done.append(why)

    def crash(self, child: str, how: Exit = Exit.ERROR, now: float | None = None) -> list[str]:
        """What was done when the child ended."""
        self.now, self.done = self.now if now is None else now, []
        self.obey(self.supervisor.exited(child, how, self.now))
        return self.done


def house(strategy: Strategy, *restarts: Restart, intensity: int = 10, period: int = 5) -> House:
    """Children a, b, c … with these restart types."""
    children = [Child(name, restart) for name, restart in zip("abcdef", restarts, strict=False)]
    return House(Flags(strategy, intensity, period), children)


# ---- restart intensity (supervisor.erl: add_restart)


@pytest.mark.parametrize("intensity", [0, 1, 3])
def test_one_restart_more_than_the_intensity_within_the_period_ends_the_supervisor(intensity: int) -> None:
    one = house(Strategy.ONE_FOR_ONE, PERMANENT, PERMANENT, intensity=intensity)
    for _ in range(intensity):
        assert one.crash("a") == ["+a"]
    assert one.crash("a") == ["-b", End.INTENSITY]


WITHIN = [
    pytest.param(5.0, True, id="period seconds later it counts"),
    pytest.param(5.9, True, id="the clock has whole seconds"),
    pytest.param(6.0, False, id="a second after that it does not"),
]


@pytest.mark.parametrize(("later", "ends"), WITHIN)
def test_a_restart_counts_for_the_period(later: float, ends: bool) -> None:
    one = house(Strategy.ONE_FOR_ONE, PERMANENT, intensity=1, period=5)
    one.crash("a", now=0.0)
    assert one.crash("a", now=later) == ([End.INTENSITY] if ends else ["+a"])


def test_a_restart_that_fails_counts_and_is_tried_again() -> None:
    one = house(Strategy.ONE_FOR_ONE, PERMANENT, PERMANENT, intensity=3)
    one.broken = {"a"}
    assert one.crash("a") == ["!a", "!a", "!a", "-b", End.INTENSITY]


def test_one_for_all_counts_once_however_many_are_restarted() -> None:
    one = house(Strategy.ONE_FOR_ALL, PERMANENT, PERMANENT, PERMANENT, intensity=1)
    assert one.crash("b") == ["-c", "-a", "+a", "+b", "+c"]
    assert one.supervisor.restarts == [0]


def test_children_that_are_not_restarted_do_not_count() -> None:
    one = house(Strategy.ONE_FOR_ONE, TEMPORARY, TRANSIENT, PERMANENT, intensity=0)
    assert one.crash("a") == []
    assert one.crash("b", Exit.NORMAL) == []
    assert one.crash("c") == [End.INTENSITY]


# ---- strategies


STRATEGIES = [
    pytest.param(Strategy.ONE_FOR_ONE, ["+b"], id="that child alone"),
    pytest.param(Strategy.REST_FOR_ONE, ["-d", "-c", "+b", "+c", "+d"], id="and those started after it"),
    pytest.param(Strategy.ONE_FOR_ALL, ["-d", "-c", "-a", "+a", "+b", "+c", "+d"], id="all of them"),
]


@pytest.mark.parametrize(("strategy", "done"), STRATEGIES)
def test_stopped_in_reverse_and_started_in_order(strategy: Strategy, done: list[str]) -> None:
    assert house(strategy, *[PERMANENT] * 4).crash("b") == done


def test_a_temporary_sibling_is_stopped_with_the_others_and_never_comes_back() -> None:
    one = house(Strategy.ONE_FOR_ALL, PERMANENT, TEMPORARY, PERMANENT)
    assert one.crash("a") == ["-c", "-b", "+a", "+c"]
    assert list(one.supervisor.children) == ["a", "c"]


def test_a_transient_sibling_that_had_ended_well_is_started_with_the_others() -> None:
    one = house(Strategy.ONE_FOR_ALL, PERMANENT, TRANSIENT)
    one.crash("b", Exit.NORMAL)
    assert one.crash("a") == ["+a", "+b"]


def test_when_one_of_many_cannot_be_restarted_all_are_tried_again() -> None:
    one = house(Strategy.REST_FOR_ONE, PERMANENT, PERMANENT, PERMANENT, intensity=2)
    one.broken = {"c"}
    assert one.crash("b") == ["-c", "+b", "!c", "!c", "-b", "-a", End.INTENSITY]


def test_those_behind_one_that_cannot_be_restarted_wait_for_it() -> None:
    one = house(Strategy.REST_FOR_ONE, PERMANENT, PERMANENT, PERMANENT, intensity=2)
    one.broken = {"b"}
    assert one.crash("a") == ["-c", "-b", "+a", "!b", "!b", "-a", End.INTENSITY]


def test_children_of_one_kind_are_added_and_restarted_alone_and_stopped_all_at_once() -> None:
    one = House(Flags(Strategy.SIMPLE_ONE_FOR_ONE, intensity=5))
    for name in "abc":
        one.obey(one.supervisor.add(Child(name, TRANSIENT), 0.0))
    assert one.crash("b") == ["+b"]
    assert one.crash("a", Exit.NORMAL) == []
    assert list(one.supervisor.children) == ["b", "c"]
    assert one.supervisor.stop(0.0) == [Stop("c", 5.0), Stop("b", 5.0)]
    assert one.supervisor.exited("b", Exit.SHUTDOWN, 0.0) == []
    assert one.supervisor.exited("c", Exit.SHUTDOWN, 0.0) == [Ended(End.STOPPED)]


def test_a_child_that_cannot_be_added_is_no_child_and_counts_as_no_restart() -> None:
    one = house(Strategy.ONE_FOR_ONE, PERMANENT, intensity=0)
    one.broken = {"z"}
    one.obey(one.supervisor.add(Child("z"), 0.0))
    assert list(one.supervisor.children) == ["a"]
    assert (one.supervisor.restarts, one.supervisor.ended) == ([], None)


# ---- restart types


TYPES = [
    pytest.param(PERMANENT, Exit.NORMAL, True, id="permanent, normal"),
    pytest.param(PERMANENT, Exit.SHUTDOWN, True, id="permanent, shutdown"),
    pytest.param(PERMANENT, Exit.ERROR, True, id="permanent, error"),
    pytest.param(TRANSIENT, Exit.NORMAL, False, id="transient, normal"),
    pytest.param(TRANSIENT, Exit.SHUTDOWN, False, id="transient, shutdown"),
    pytest.param(TRANSIENT, Exit.ERROR, True, id="transient, error"),
    pytest.param(TEMPORARY, Exit.NORMAL, False, id="temporary, normal"),
    pytest.param(TEMPORARY, Exit.ERROR, False, id="temporary, error"),
]


@pytest.mark.parametrize(("restart", "how", "comes_back"), TYPES)
def test_who_comes_back(restart: Restart, how: Exit, comes_back: bool) -> None:
    one = house(Strategy.ONE_FOR_ONE, restart)
    assert one.crash("a", how) == (["+a"] if comes_back else [])


# ---- shutdown


def test_children_are_stopped_one_after_the_other_in_reverse_order_with_their_own_times() -> None:
    children = [Child("a", shutdown=INFINITY), Child("b", shutdown=BRUTAL), Child("c", shutdown=7.0)]
    one = House(Flags(), children)
    supervisor = one.supervisor
    assert supervisor.stop(0.0) == [Stop("c", 7.0)]
    assert supervisor.exited("c", Exit.SHUTDOWN, 0.0) == [Stop("b", BRUTAL)]
    assert supervisor.exited("b", Exit.ERROR, 0.0) == [Stop("a", INFINITY)]
    assert supervisor.exited("a", Exit.SHUTDOWN, 0.0) == [Ended(End.STOPPED)]
    assert supervisor.exited("a", Exit.ERROR, 0.0) == []


def test_a_child_that_cannot_be_started_at_the_beginning_ends_everything() -> None:
    one = House.__new__(House)
    one.supervisor = Supervisor.make(Flags(), [Child(name) for name in "abc"])
    one.done, one.broken, one.now = [], {"c"}, 0.0
    one.obey(one.supervisor.begin(0.0))
    assert one.done == ["+a", "+b", "!c", "-b", "-a", End.START_FAILED]


def test_a_crash_heard_while_the_child_is_to_be_stopped_anyway_is_no_crash() -> None:
    one = house(Strategy.ONE_FOR_ALL, PERMANENT, PERMANENT, PERMANENT)
    supervisor = one.supervisor
    assert supervisor.exited("a", Exit.ERROR, 0.0) == [Stop("c", 5.0)]
    assert supervisor.exited("b", Exit.ERROR, 0.0) == []
    assert supervisor.exited("c", Exit.SHUTDOWN, 0.0) == [Start("a")]
    for child in "ab":
        assert supervisor.started(child, 0.0) == [Start("b" if child == "a" else "c")]
    assert supervisor.started("c", 0.0) == []
    assert supervisor.restarts == [0]


def test_a_crash_heard_during_a_restart_is_thought_about_afterwards() -> None:
    supervisor = house(Strategy.ONE_FOR_ONE, PERMANENT, PERMANENT).supervisor
    assert supervisor.exited("a", Exit.ERROR, 0.0) == [Start("a")]
    assert supervisor.exited("b", Exit.ERROR, 0.0) == []
    assert supervisor.started("a", 0.0) == [Start("b")]


def test_being_told_to_stop_between_two_tries_ends_the_tries() -> None:
    supervisor = house(Strategy.ONE_FOR_ONE, PERMANENT, PERMANENT).supervisor
    supervisor.exited("a", Exit.ERROR, 0.0)
    assert supervisor.stop(0.0) == []
    assert supervisor.start_failed("a", 0.0) == [Stop("b", 5.0)]
    assert supervisor.exited("b", Exit.SHUTDOWN, 0.0) == [Ended(End.STOPPED)]


# ---- automatic shutdown


def significant(auto: AutoShutdown, *restarts: Restart) -> House:
    children = [Child(name, restart, significant=True) for name, restart in zip("abc", restarts, strict=False)]
    return House(Flags(intensity=5, auto_shutdown=auto), [*children, Child("z")])


def test_any_significant_child_that_ends_by_itself_ends_the_supervisor() -> None:
    assert significant(AutoShutdown.ANY_SIGNIFICANT, TRANSIENT).crash("a", Exit.NORMAL) == ["-z", End.SIGNIFICANT]
    assert significant(AutoShutdown.ANY_SIGNIFICANT, TEMPORARY).crash("a") == ["-z", End.SIGNIFICANT]
    assert significant(AutoShutdown.ANY_SIGNIFICANT, TRANSIENT).crash("a") == ["+a"]


def test_a_child_that_is_not_significant_ends_nothing() -> None:
    one = significant(AutoShutdown.ANY_SIGNIFICANT, TRANSIENT)
    one.obey(one.supervisor.add(Child("y", TEMPORARY), 0.0))
    assert one.crash("y") == []


def test_all_significant_waits_for_the_last_of_them() -> None:
    one = significant(AutoShutdown.ALL_SIGNIFICANT, TRANSIENT, TEMPORARY)
    assert one.crash("b") == []
    assert one.crash("a", Exit.NORMAL) == ["-z", End.SIGNIFICANT]


def test_a_significant_child_that_its_supervisor_stops_ends_nothing() -> None:
    children = [Child("a"), Child("b", TEMPORARY, significant=True)]
    one = House(Flags(Strategy.ONE_FOR_ALL, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT), children)
    assert one.crash("a") == ["-b", "+a"]


# ---- escalation


def test_a_supervisor_that_gave_up_is_an_end_that_only_a_permanent_child_is_restarted_after() -> None:
    below = house(Strategy.ONE_FOR_ONE, PERMANENT, intensity=0)
    assert below.crash("a") == [End.INTENSITY]
    assert house(Strategy.ONE_FOR_ONE, PERMANENT).crash("a", Exit.SHUTDOWN) == ["+a"]
    assert house(Strategy.ONE_FOR_ONE, TRANSIENT).crash("a", Exit.SHUTDOWN) == []


# ---- what is refused


REFUSED = [
    pytest.param(Flags(intensity=-1), [], "intensity", id="negative intensity"),
    pytest.param(Flags(period=0), [], "period", id="no period"),
    pytest.param(Flags(), [Child("a"), Child("a")], "same id", id="an id twice"),
    pytest.param(Flags(), [Child("a", TRANSIENT, significant=True)], "autoShutdown", id="significant for nothing"),
    pytest.param(
        Flags(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT),
        [Child("a", significant=True)],
        "Permanent",
        id="significant and permanent",
    ),
    pytest.param(Flags(), [Child("a", shutdown=-1.0)], "shutdown", id="negative shutdown"),
]


@pytest.mark.parametrize(("flags", "children", "word"), REFUSED)
def test_what_otp_refuses_is_refused(flags: Flags, children: list[Child], word: str) -> None:
    with pytest.raises(BadSpecification, match=word):
        Supervisor.make(flags, children)


# ---- what holds always


@settings(max_examples=300)
@given(st.lists(st.integers(0, 8), max_size=40), st.integers(0, 4), st.integers(1, 6))
def test_the_supervisor_ends_at_the_first_window_with_more_restarts_than_the_intensity(
    pauses: list[int], intensity: int, period: int
) -> None:
    """Against the definition: some `period` seconds, both ends included, that hold more than `intensity` restarts."""
    one, now, crashes = house(Strategy.ONE_FOR_ONE, PERMANENT, intensity=intensity, period=period), 0, list[int]()
    for pause in pauses:
        now += pause
        crashes.append(now)
        over = sum(now - period <= at <= now for at in crashes) > intensity
        assert one.crash("a", now=now) == ([End.INTENSITY] if over else ["+a"])
        if over:
            return


def test_restarts_that_are_forgotten_do_not_pile_up() -> None:
    restarts: list[int] = []
    for now in range(0, 10_000, 3):
        restarts = add_restart(restarts, now, 9)
    assert len(restarts) == 4


class SupervisorMachine(RuleBasedStateMachine):
    """Starts and stops that take their time, fail, and are overtaken by crashes and by orders to stop."""

    @initialize(
        strategy=st.sampled_from([Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE]),
        restarts=st.lists(st.sampled_from(list(Restart)), min_size=1, max_size=5),
        intensity=st.integers(0, 5),
    )
    def begin(self, strategy: Strategy, restarts: list[Restart], intensity: int) -> None:
        children = [Child(name, restart) for name, restart in zip("abcde", restarts, strict=False)]
        self.kinds = {child.id: child for child in children}
        self.supervisor = Supervisor.make(Flags(strategy, intensity, 5), children)
        self.now = 0.0
        self.alive: set[str] = set()
        self.outstanding: Command | None = None
        self.over: End | None = None
        self.asked = False
        self.took: list[str] = []
        """Starts in order since the last stop: they follow the children's order."""
        self.take(self.supervisor.begin(self.now))

    def take(self, commands: list[Command]) -> None:
        assert self.over is None or not commands
        assert len(commands) <= 1
        for command in commands:
            assert self.outstanding is None
            match command:
                case Start(child):
                    assert child not in self.alive
                    self.outstanding = command
                case Stop(child):
                    later = [name for name in self.alive if name > child]
                    # What runs and comes after it is stopped before it, unless only a part is restarted.
                    assert not later or self.over is None
                    self.outstanding = command
                case Ended(why):
                    assert not self.alive
                    self.over = why

    @precondition(lambda self: self.outstanding is not None)
    @rule(well=st.booleans())
    def answer(self, well: bool) -> None:
        command, self.outstanding = self.outstanding, None
        match command:
            case Start(child):
                if well:
                    self.alive.add(child)
                    self.take(self.supervisor.started(child, self.now))
                else:
                    self.take(self.supervisor.start_failed(child, self.now))
            case Stop(child):
                self.alive.discard(child)
                self.take(self.supervisor.exited(child, Exit.SHUTDOWN if well else Exit.ERROR, self.now))

    @precondition(lambda self: self.alive)
    @rule(pick=st.integers(0, 9), how=st.sampled_from(list(Exit)))
    def crash(self, pick: int, how: Exit) -> None:
        child = sorted(self.alive)[pick % len(self.alive)]
        if isinstance(self.outstanding, Stop) and self.outstanding.child == child:
            return
        self.alive.remove(child)
        self.take(self.supervisor.exited(child, how, self.now))

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.asked)
    @rule()
    def stop(self) -> None:
        self.asked = True
        self.take(self.supervisor.stop(self.now))

    @invariant()
    def quiet_means_that_all_is_as_it_should_be(self) -> None:
        """With nothing under way, whoever is permanent runs; temporary children that ended are forgotten."""
        if self.outstanding is not None or self.over is not None:
            return
        assert self.alive == set(self.supervisor.running)
        for child in self.kinds.values():
            if child.restart is PERMANENT:
                assert child.id in self.alive
        temporary = {name for name in self.supervisor.children if self.kinds[name].restart is TEMPORARY}
        assert temporary <= self.alive

    @invariant()
    def an_intensity_that_is_not_exceeded_ends_nothing(self) -> None:
        if self.over is End.INTENSITY:
            assert len(self.supervisor.restarts) == self.supervisor.flags.intensity + 1
        elif self.over is None and self.supervisor.ended is None and self.outstanding is None:
            assert len(self.supervisor.restarts) <= self.supervisor.flags.intensity

    def teardown(self) -> None:
        """Whatever happened, being told to stop ends it, and everything with it."""
        if not hasattr(self, "supervisor"):
            return
        if not self.asked:
            self.stop()
        while self.outstanding is not None:
            self.answer(well=True)
        assert self.over is not None
        assert not self.alive


TestSupervisorMachine = SupervisorMachine.TestCase
