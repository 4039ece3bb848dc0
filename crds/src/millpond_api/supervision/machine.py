"""OTP's supervisor as a pure state machine: events and the time go in, what to start and to stop comes out.

Owns the rules of Erlang/OTP's `supervisor` (stdlib, OTP 28: lib/stdlib/src/supervisor.erl): restart intensity, the four
strategies, permanent, transient and temporary children, shutdown in reverse order, automatic shutdown. It knows no
process, pod or clock: whoever drives it starts and stops children, and tells how that went and which child ended.

Like OTP's it does one thing at a time: what it hears while it waits for a child to start or to stop waits too, and the
end of a child that it is stopping anyway is no crash. Times are whole seconds, as there (`monotonic_time(1)`).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from millpond_api.supervision.specification import (
    AutoShutdown,
    BadSpecification,
    Child,
    End,
    Exit,
    Flags,
    Restart,
    Strategy,
    check,
)


@dataclass(frozen=True)
class Start:
    """Start the child; answer with `started` or `start_failed`."""

    child: str


@dataclass(frozen=True)
class Stop:
    """Tell the child to end and kill it after `within` seconds; answer with `exited`, however it ended."""

    child: str
    within: float


@dataclass(frozen=True)
class Ended:
    """The supervisor is over; all of its children have ended."""

    why: End


Command = Start | Stop | Ended


class _State(StrEnum):
    RUNNING = "running"
    ENDED = "ended"
    RESTARTING = "restarting"
    """A restart failed; it is tried again after what has been heard meanwhile."""


@dataclass(frozen=True)
class _Exited:
    child: str
    how: Exit


@dataclass(frozen=True)
class _TryAgain:
    child: str


@dataclass(frozen=True)
class _Asked:
    why: End


@dataclass(frozen=True)
class _Added:
    child: Child


@dataclass
class Supervisor:
    """One supervisor and what it knows of its children. Each method returns what is to be done now.

    `now` is seconds of any clock that never goes back.
    """

    flags: Flags
    children: dict[str, Child]
    """Its children in the order in which they were started; temporary ones that ended are gone."""
    ended: End | None = None
    restarts: list[int] = field(default_factory=list)
    """When children were restarted, latest first: those within the last `period` seconds."""
    _states: dict[str, _State] = field(default_factory=dict)
    _heard: deque[_Exited | _TryAgain | _Asked | _Added] = field(default_factory=deque)
    _plan: deque[Start | Stop] = field(default_factory=deque)
    _pending: dict[str, Start | Stop] = field(default_factory=dict)
    _ending: End | None = None
    _beginning: bool = False
    _adding: str = ""

    @classmethod
    def make(cls, flags: Flags, children: Iterable[Child] = ()) -> "Supervisor":
        """A supervisor that has not begun; BadSpecification for what OTP refuses.

        For SIMPLE_ONE_FOR_ONE the children come later, by `add`.
        """
        found = list(children)
        check(flags, found)
        return cls(
            flags, {child.id: child for child in found}, _states=dict.fromkeys((c.id for c in found), _State.ENDED)
        )

    # ---- what is asked

    def begin(self, now: float) -> list[Command]:
        """Start the children in their order; when one fails, those before it are stopped and this is over."""
        self._beginning = True
        self._plan.extend(Start(child) for child in self.children)
        return self._go_on(now)

    def add(self, child: Child, now: float) -> list[Command]:
        """One more child, the last in order; for SIMPLE_ONE_FOR_ONE, and for siblings that come later.

        When it cannot be started it is no child, and that counts as no restart.
        """
        known = {*self.children, *(heard.child.id for heard in self._heard if isinstance(heard, _Added))}
        if child.id in known:
            raise BadSpecification(f"there is a child {child.id!r} already")
        check(self.flags, [child])
        self._heard.append(_Added(child))
        return self._go_on(now)

    def stop(self, now: float) -> list[Command]:
        """End all children, the last one first, and then this."""
        self._heard.append(_Asked(End.STOPPED))
        return self._go_on(now)

    # ---- what happened

    def started(self, child: str, now: float) -> list[Command]:
        """The start that was asked for went well."""
        del self._pending[child]
        self._states[child], self._adding = _State.RUNNING, ""
        return self._go_on(now)

    def start_failed(self, child: str, now: float) -> list[Command]:
        """It did not. At the beginning that is the end; later it counts as a restart, and is tried again."""
        del self._pending[child]
        self._plan.clear()
        if self._beginning:
            self._end(End.START_FAILED)
        elif self._adding == child:
            self._adding = ""
            del self.children[child], self._states[child]
        else:
            self._states[child] = _State.RESTARTING
            self._heard.append(_TryAgain(child))
        return self._go_on(now)

    def exited(self, child: str, how: Exit, now: float) -> list[Command]:
        """A running child ended, by itself or because it was told to."""
        if isinstance(self._pending.get(child), Stop):
            del self._pending[child]
            self._note_end(child)
        elif self._states.get(child) is _State.RUNNING:
            self._heard.append(_Exited(child, how))
        return self._go_on(now)

    @property
    def running(self) -> list[str]:
        """Children that run, as far as is known, in their order."""
        return [child for child in self.children if self._states[child] is _State.RUNNING]

    @property
    def ending(self) -> End | None:
        """Why it is ending or has ended; None while it goes on."""
        return self._ending

    @property
    def beginning(self) -> bool:
        """Whether it starts its children for the first time: what fails now ends it."""
        return self._beginning

    @property
    def pending(self) -> tuple[Start | Stop, ...]:
        """What was asked for and not answered yet."""
        return tuple(self._pending.values())

    def restarts_at(self, now: float) -> int:
        """How many restarts still count at `now`."""
        return sum(at >= int(now) - self.flags.period for at in self.restarts)

    # ---- one thing after the other

    def _go_on(self, now: float) -> list[Command]:
        commands: list[Command] = []
        while not self._pending and self.ended is None:
            if self._plan:
                self._execute(self._plan.popleft(), commands)
            elif self._ending is not None:
                self.ended = self._ending
                commands.append(Ended(self.ended))
            elif self._heard:
                self._beginning = False
                self._hear(self._heard.popleft(), now)
            else:
                self._beginning = False
                break
        return commands

    def _execute(self, step: Start | Stop, commands: list[Command]) -> None:
        # Children of one kind have no order: all of them are told to end at once.
        together = self.flags.strategy is Strategy.SIMPLE_ONE_FOR_ONE and self._ending is not None
        steps = [step, *self._plan] if together else [step]
        if together:
            self._plan.clear()
        for one in steps:
            if isinstance(one, Stop) and not self._must_be_told(one.child):
                self._note_end(one.child)
                continue
            self._pending[one.child] = one
            commands.append(one)

    def _must_be_told(self, child: str) -> bool:
        """Whether it runs; an end of which was heard and not yet thought about is no crash any more."""
        flushed = [heard for heard in self._heard if not (isinstance(heard, _Exited) and heard.child == child)]
        ended = len(flushed) < len(self._heard)
        self._heard = deque(flushed)
        return self._states.get(child) is _State.RUNNING and not ended

    def _hear(self, heard: _Exited | _TryAgain | _Asked | _Added, now: float) -> None:
        match heard:
            case _Asked(why):
                self._end(why)
            case _Added(child):
                self.children[child.id], self._states[child.id] = child, _State.ENDED
                self._adding = child.id
                self._plan.append(Start(child.id))
            case _TryAgain(name):
                if self._states.get(name) is _State.RESTARTING:
                    self._restart(self.children[name], now)
            case _Exited(name, how):
                self._decide(self.children[name], how, now)

    def _decide(self, child: Child, how: Exit, now: float) -> None:
        """A child ended by itself (supervisor.erl: do_restart)."""
        badly = how is Exit.ERROR
        if child.restart is Restart.PERMANENT or (child.restart is Restart.TRANSIENT and badly):
            self._restart(child, now)
            return
        self._note_end(child.id)
        if child.significant and self._ends_with_it():
            self._end(End.SIGNIFICANT)

    def _ends_with_it(self) -> bool:
        if self.flags.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT:
            others = (child for child in self.children.values() if self._states[child.id] is not _State.ENDED)
            return not any(other.significant for other in others)
        return self.flags.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT

    def _restart(self, child: Child, now: float) -> None:
        """Restart it and whom the strategy names, unless that is once too often (supervisor.erl: restart)."""
        self.restarts = add_restart(self.restarts, int(now), self.flags.period)
        self._states[child.id] = _State.ENDED
        if len(self.restarts) > self.flags.intensity:
            self._end(End.INTENSITY)
            return
        names = list(self.children)
        match self.flags.strategy:
            case Strategy.ONE_FOR_ALL:
                group = names
            case Strategy.REST_FOR_ONE:
                group = names[names.index(child.id) :]
            case _:
                group = [child.id]
        self._plan.extend(self._stops(name for name in group if name != child.id))
        lasting = (name for name in group if self.children[name].restart is not Restart.TEMPORARY)
        self._plan.extend(Start(name) for name in lasting)

    def _stops(self, names: Iterable[str]) -> list[Stop]:
        return [Stop(name, self.children[name].shutdown) for name in reversed(list(names))]

    def _end(self, why: End) -> None:
        self._ending = why
        self._plan.clear()
        self._plan.extend(self._stops(self.children))

    def _note_end(self, child: str) -> None:
        """It has ended; a temporary child, and one of many of a kind, leaves nothing behind."""
        known = self.children.get(child)
        if known is None:
            return
        if known.restart is Restart.TEMPORARY or self.flags.strategy is Strategy.SIMPLE_ONE_FOR_ONE:
            del self.children[child]
            del self._states[child]
        else:
            self._states[child] = _State.ENDED


def add_restart(restarts: list[int], now: int, period: int) -> list[int]:
    """The restarts that count, with one more: those not longer ago than `period` seconds, latest first."""
    return [now, *(at for at in restarts if at >= now - period)]
