"""The pool of `roster`'s decisions in an event loop: futures for waiters, tasks for starts, callbacks for deaths.

Owns the members' lives and who is told what. Who gets a member is decided in `roster` alone. Survives owners that end
without a check-in, waiters that are cancelled at the moment of their grant, members that die idle or in use, and
factories that fail: those are tried again, later and later, as long as a member lacks. Belongs to one event loop.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import structlog

from millpond.errors import MillpondError
from millpond.pool.members import Factory, Seat, make_member
from millpond.pool.roster import Dismiss, Grant, Refusal, Refuse, Roster, Start, Status, Step, Strategy

log = structlog.get_logger(__name__)

M = TypeVar("M")
R = TypeVar("R")

TIMEOUT = 5.0
"""poolboy's default: seconds that a check-out waits."""
PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between two starts after one that failed."""


class PoolFull(MillpondError):
    """Every member is in use, and the check-out was not to wait."""


class PoolTimeout(MillpondError, TimeoutError):
    """No member came free within the time that the check-out was given: raise the pool's size or the timeout."""


class PoolClosed(MillpondError):
    """The pool is closed, or was not opened: use it inside of `async with`."""


@dataclass(eq=False)
class _Claim(Generic[M]):
    """One check-out, from the wish to the check-in."""

    owner: asyncio.Task[Any]
    granted: asyncio.Future[Seat[M]]
    on_owner_end: Callable[[asyncio.Task[Any]], None] | None = None


@dataclass
class Pool(Generic[M]):
    """`size` members made by `factory`, and up to `max_overflow` more while all are in use.

    `factory` is a function without arguments: an `async def`, or a plain one, which runs in a thread. A member may have
    `closed`, a future that is done when it has died, and `close`, plain or async, which ends it. `strategy` says which
    idle member goes first: the one that came last (`lifo`) or first (`fifo`); waiters always are served in their order.
    `warm` of the members are made before anybody asks (None: all), the others when they are first needed.
    """

    factory: Factory[M]
    size: int
    max_overflow: int = 0
    strategy: Strategy = "lifo"
    warm: int | None = None
    _roster: Roster[_Claim[M], Seat[M]] = field(init=False, repr=False)
    _seats: dict[int, Seat[M]] = field(default_factory=dict, init=False, repr=False)
    _previous: dict[int, asyncio.Task[Any]] = field(default_factory=dict, init=False, repr=False)
    """By member: the owner that checked it in last. Its second check-in must not take it from the next owner."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False, repr=False)
    _open: bool = field(default=False, init=False, repr=False)
    _failures: int = field(default=0, init=False, repr=False)
    _again: asyncio.TimerHandle | None = field(default=None, init=False, repr=False)
    _why: str = field(default="", init=False, repr=False)
    """Why the last start failed; empty after one that did not."""

    def __post_init__(self) -> None:
        self._roster = self._make_roster()

    # ---- opening and closing

    async def __aenter__(self) -> Self:
        """Start the members side by side; when one fails, the others are ended and its error is raised."""
        if self._open:
            raise PoolClosed("this pool is open already: make one Pool for each `async with`")
        count = self.size if self.warm is None else self.warm
        made = await asyncio.gather(*(make_member(self.factory) for _ in range(count)), return_exceptions=True)
        members = [one for one in made if not isinstance(one, BaseException)]
        errors = [one for one in made if isinstance(one, BaseException)]
        if errors:
            for member in members:
                await Seat(member).end()
            raise errors[0]
        self._open = True
        for member in members:
            self._roster.idle.append(self._seat(member))
        return self

    def open(self) -> None:
        """The same without waiting for them: a start that fails is tried again. `close` ends what this began."""
        if self._open:
            raise PoolClosed("this pool is open already")
        self._open = True
        self._do(self._roster.retry())

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, timeout: float = TIMEOUT) -> None:
        """End every member, also those in use; who waits gets PoolClosed. Closing twice is nothing.

        A factory that hangs is waited for `timeout` seconds.
        """
        self._open = False
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for claim in self._roster.waiting:
            if not claim.granted.done():
                claim.granted.set_exception(PoolClosed("the pool was closed"))
        for claim in self._roster.lent.values():
            self._forget_owner(claim)
        seats = list(self._seats.values())
        self._roster = self._make_roster()
        self._seats.clear()
        await asyncio.gather(*(seat.end() for seat in seats))
        # What is being started ends itself when it is there.
        if self._tasks:
            _, hanging = await asyncio.wait(self._tasks, timeout=timeout)
            for task in hanging:
                task.cancel()

    # ---- what users call

    async def checkout(self, *, block: bool = True, timeout: float | None = TIMEOUT) -> M:
        """A member, this task's until `checkin`, or until the task ends.

        `timeout` is in seconds (None: for ever). PoolTimeout when none came free in time; PoolFull with `block=False`
        and all in use; PoolClosed when the pool is closed. In `asyncio.wait_for` or `gather` the owner would be a
        task of theirs, which ends at once: give `timeout` instead.
        """
        owner = asyncio.current_task()
        if not self._open or owner is None:
            raise PoolClosed("the pool is not open: use it inside of `async with`")
        for seat in [seat for seat in self._roster.idle if seat.dead]:
            self._on_death(seat)  # its callback has not run yet
        began = time.monotonic()
        claim = _Claim[M](owner, asyncio.get_running_loop().create_future())
        self._do(self._roster.claim(claim, patient=block))
        seat = await self._await(claim, timeout)
        if self._roster.lent.get(seat) is claim:
            claim.on_owner_end = lambda _: self._give_back(claim, seat)
            owner.add_done_callback(claim.on_owner_end)
            seat.used, self._failures = True, 0
            return seat.member
        # Between its grant and this task's turn the member died, or the pool was closed: once more.
        left = None if timeout is None else max(0.0, began + timeout - time.monotonic())
        return await self.checkout(block=block, timeout=left)

    async def _await(self, claim: _Claim[M], timeout: float | None) -> Seat[M]:
        try:
            async with asyncio.timeout(timeout):
                return await claim.granted
        except TimeoutError:
            self._do(self._roster.withdraw(claim))
            reason = f"; the last start failed: {self._why}" if self._why else ""
            raise PoolTimeout(f"no member came free within {timeout:g} s{reason}") from None
        except BaseException:  # cancelled, maybe after the grant: what was granted goes back
            self._do(self._roster.withdraw(claim))
            raise

    def checkin(self, member: M) -> None:
        """Give the member back; a second time, or when it has died, this is nothing."""
        seat = self._seats.get(id(member))
        claim = self._roster.lent.get(seat) if seat is not None else None
        if seat is None or claim is None:
            return
        task = asyncio.current_task()
        if task is not None and task is not claim.owner and task is self._previous.get(id(member)):
            return  # it gave it back before; the member is another's now
        self._previous[id(member)] = claim.owner
        self._give_back(claim, seat)

    def _give_back(self, claim: _Claim[M], seat: Seat[M]) -> None:
        self._forget_owner(claim)
        if seat.dead:
            self._on_death(seat)
        else:
            self._do(self._roster.withdraw(claim))

    def dismiss(self, member: M) -> None:
        """Instead of `checkin`: the member is worn out. It is ended, and replaced as one that died would be."""
        seat = self._seats.get(id(member))
        claim = self._roster.lent.get(seat) if seat is not None else None
        if seat is not None and claim is not None:
            self._forget_owner(claim)
            self._drop(seat)
            self._spawn(seat.end())
            self._do(self._roster.died(seat))

    async def transaction(self, work: Callable[[M], R | Awaitable[R]], timeout: float | None = TIMEOUT) -> R:
        """What `work(member)` returns, or what it awaits; the member is checked in whatever happens."""
        member = await self.checkout(timeout=timeout)
        try:
            done = work(member)
            return await done if inspect.isawaitable(done) else done
        finally:
            self.checkin(member)

    def status(self) -> Status:
        """poolboy's status, as of now."""
        return self._roster.status()

    # ---- what is decided is done

    def _do(self, steps: list[Step[_Claim[M], Seat[M]]]) -> None:
        todo = list(steps)
        while todo:
            step = todo.pop(0)
            match step:
                case Grant(claim, seat):
                    todo += self._hand_over(claim, seat)
                case Refuse(claim, why):
                    self._refuse(claim, why)
                case Start():
                    self._spawn(self._start())
                case Dismiss(seat):
                    self._drop(seat)
                    self._spawn(seat.end())

    def _hand_over(self, claim: _Claim[M], seat: Seat[M]) -> list[Step[_Claim[M], Seat[M]]]:
        if not claim.granted.done():
            claim.granted.set_result(seat)
            return []
        return self._roster.withdraw(claim)  # cancelled in this very turn of the loop

    def _refuse(self, claim: _Claim[M], why: Refusal) -> None:
        if not claim.granted.done():
            detail = f": {self._why}" if why is Refusal.FAILED else ""
            claim.granted.set_exception(PoolFull(f"{why.value}{detail}"))

    async def _start(self) -> None:
        try:
            member = await make_member(self.factory)
        except Exception as error:  # whatever a factory raises: the pool goes on, and tries again
            if not self._open:
                return
            self._note_failure(f"{type(error).__name__}: {error}")
            self._do(self._roster.failed())
            return
        if not self._open:
            await Seat(member).end()
            return
        self._why = ""
        self._do(self._roster.started(self._seat(member)))

    def _note_failure(self, why: str) -> None:
        """Whoever lacks a member waits for a while, longer each time."""
        self._failures, self._why = self._failures + 1, why
        log.warning("a member could not be started", error=why, failures=self._failures)
        if self._open and self._again is None:
            pause = PAUSES[min(self._failures, len(PAUSES)) - 1]
            self._again = asyncio.get_running_loop().call_later(pause, self._retry)

    def _retry(self) -> None:
        self._again = None
        self._do(self._roster.retry())

    def _seat(self, member: M) -> Seat[M]:
        seat = self._seats[id(member)] = Seat(member)
        seat.watch(self._on_death)
        return seat

    def _on_death(self, seat: Seat[M]) -> None:
        if self._seats.get(id(seat.member)) is not seat:
            return  # it was dismissed, or the pool is closed: its end is no death
        claim = self._roster.lent.get(seat)
        if claim is not None:
            self._forget_owner(claim)
        self._drop(seat)
        if young := seat.young:
            self._note_failure("it died as soon as it was made")
        self._do(self._roster.died(seat, young=young))

    def _drop(self, seat: Seat[M]) -> None:
        self._seats.pop(id(seat.member), None)
        self._previous.pop(id(seat.member), None)

    def _forget_owner(self, claim: _Claim[M]) -> None:
        if claim.on_owner_end is not None:
            claim.owner.remove_done_callback(claim.on_owner_end)
            claim.on_owner_end = None

    def _make_roster(self) -> Roster[_Claim[M], Seat[M]]:
        return Roster(self.size, self.max_overflow, self.strategy, warm=self.warm)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
