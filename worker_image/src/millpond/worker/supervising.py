"""The supervisor of a pod's child processes: `millpond_api.supervision`, driven in the worker's main loop.

Owns who is started and stopped when; how that is done is a ward's. It decides nothing: restart, intensity and order are
the pure machine's. It survives children that crash, that cannot be started again and that do not end when they
are told to; more crashes than the intensity within the period it does not, and says so (`gave_up`).

A ward that ends its own process on purpose (a hard timeout, a recycled process) says nothing here: that is no crash.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from millpond_api.supervision import Child, Command, End, Ended, Exit, Flags, Start, Stop, Supervisor

from millpond.errors import MillpondError


class Ward(Protocol):
    """A child as its supervisor handles it."""

    async def start(self) -> None:
        """OSError when it cannot be started. From now on its crash is told by `Supervision.crashed`."""

    async def stop(self, within: float) -> None:
        """Tell it to end, kill it after `within` seconds; returns when it has ended. Nothing is told any more."""


@dataclass(frozen=True)
class Kin:
    """A child, how it is handled, and what to call its kind: `4 crashes of <kind>`."""

    child: Child
    ward: Ward
    kind: str


class NotStarted(MillpondError):
    """A child process could not be started with the worker: see the pod's limits of processes and memory."""


class Supervision:
    """One supervisor. `gave_up` hears the sentence when it ends its children, before the first of them is stopped."""

    def __init__(self, flags: Flags, gave_up: Callable[[str], None]) -> None:
        self._flags, self._gave_up = flags, gave_up
        self._machine = Supervisor.make(flags)
        self._kin: dict[str, Kin] = {}
        self._crashes: deque[tuple[str, str]] = deque(maxlen=flags.intensity + 1)
        """Kind and reason of those that may count."""
        self._blamed: dict[str, float] = {}
        """Culprits, and when they were counted."""
        self._stopping: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled, self._over = asyncio.Event(), asyncio.Event()
        self.exceeded = ""
        """Why it gave up, as a sentence."""

    async def begin(self, family: Sequence[Kin] = ()) -> None:
        """Start them in this order; NotStarted when one cannot be, and those before it are stopped again."""
        self._kin = {kin.child.id: kin for kin in family}
        self._machine = Supervisor.make(self._flags, [kin.child for kin in family])
        self._do(self._machine.begin(self._now()))
        while self._machine.ended is None and len(self._machine.running) < len(family):
            await self._settled.wait()
            self._settled.clear()
        if self._machine.ended is End.START_FAILED:
            raise NotStarted(self._crashes[-1][1])

    def add(self, kin: Kin) -> None:
        """One more, the last in order; once its children are being ended, no more."""
        if self._machine.ending is None:
            self._kin[kin.child.id] = kin
            self._do(self._machine.add(kin.child, self._now()))

    def crashed(self, child: str, why: str, culprit: str = "") -> None:
        """The child ended and nobody wanted it to: it is started again, or that was once too often.

        `culprit` is the task that it ran. A task counts once within the period, its next crashes say nothing new about
        the pod: they are dealt with as failures of its attempts.
        """
        if child in self._stopping or self._machine.ending is not None:
            return
        counts = not (culprit and self._is_blamed(culprit))
        kind = self._kin[child].kind
        structlog.get_logger("millpond.worker").warning("a child process ended", child=child, why=why, counts=counts)
        if counts:
            self._crashes.append((kind, why))
            self._do(self._machine.exited(child, Exit.ERROR, self._now()))
        else:
            self._spawn(self._start_uncounted(child))

    async def stop(self) -> None:
        """End the children, the last one first. Returns when all have ended, also when it had given up before."""
        self._do(self._machine.stop(self._now()))
        if self._machine.ended is None:
            await self._over.wait()

    def _is_blamed(self, culprit: str) -> bool:
        # A second longer than the machine remembers, whose clock has whole ones: its two crashes must never count.
        now = self._now()
        self._blamed = {task: at for task, at in self._blamed.items() if now - at <= self._flags.period + 1}
        known = culprit in self._blamed
        self._blamed.setdefault(culprit, now)
        return known

    def _do(self, commands: list[Command]) -> None:
        if self._machine.ending is End.INTENSITY and not self.exceeded:
            self.exceeded = describe_crashes([*self._crashes], self._flags.period)
            self._gave_up(self.exceeded)
        for command in commands:
            match command:
                case Start(child):
                    self._spawn(self._start(child))
                case Stop(child, within):
                    self._spawn(self._stop(child, within))
                case Ended():
                    self._over.set()
        self._settled.set()

    async def _start(self, child: str) -> None:
        kin = self._kin[child]
        try:
            await kin.ward.start()
        except OSError as error:
            self._crashes.append((kin.kind, f"{child} could not be started: {error}"))
            self._do(self._machine.start_failed(child, self._now()))
            return
        self._do(self._machine.started(child, self._now()))

    async def _start_uncounted(self, child: str) -> None:
        try:
            await self._kin[child].ward.start()
        except OSError as error:
            self.crashed(child, f"{child} could not be started: {error}")

    async def _stop(self, child: str, within: float) -> None:
        self._stopping.add(child)
        await self._kin[child].ward.stop(within)
        self._do(self._machine.exited(child, Exit.SHUTDOWN, self._now()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _now() -> float:
        return time.monotonic()


def describe_crashes(crashes: list[tuple[str, str]], period: int) -> str:
    """`4 crashes of handler processes in 30s; the last: …` from kinds and reasons, latest last. Pure."""
    counts = Counter(kind for kind, _ in crashes)
    kinds = ", ".join(f"{count} crash{'es' if count > 1 else ''} of {kind}" for kind, count in counts.items())
    return f"{kinds} in {period}s; the last: {crashes[-1][1]}"
