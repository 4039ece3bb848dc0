"""The supervisor of a pod's child processes: real ones, killed and stubborn, and the pure machine beside it."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from millpond.worker.supervising import Kin, NotStarted, Supervision, describe_crashes
from millpond.worker.wards import Program
from millpond_api.supervision import BRUTAL, INFINITY, Child, Command, End, Ended, Exit, Flags, Start, Stop, Supervisor

from tests.support.eventually import eventually

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(3600)"]
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(3600)"
)
LENIENT = Flags(intensity=100, period=3600)


class House:
    """A supervisor with programs, and what it said."""

    def __init__(self, flags: Flags = LENIENT) -> None:
        self.said: list[str] = []
        self.supervision = Supervision(flags, self.said.append)
        self.stopped: list[str] = []

    def kin(self, name: str, command: list[str] | None = None, shutdown: float = 30.0) -> Kin:
        house = self

        class Noted(Program):
            async def stop(self, within: float) -> None:
                await super().stop(within)
                house.stopped.append(name)

        ward = Noted(command or SLEEPER, lambda why: self.supervision.crashed(name, f"{name} {why}"))
        return Kin(Child(name, shutdown=shutdown), ward, "sleepers")


def pid_of(kin: Kin) -> int:
    assert isinstance(kin.ward, Program)
    assert kin.ward.process is not None
    return kin.ward.process.pid


async def kill_and_await_heir(kin: Kin) -> None:
    before = pid_of(kin)
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: pid_of(kin) != before, what="another process")


async def test_a_sigkilled_child_is_started_again_and_the_last_one_is_stopped_first() -> None:
    house = House()
    family = [house.kin("a"), house.kin("b"), house.kin("c")]
    await house.supervision.begin(family)
    await kill_and_await_heir(family[1])
    last = house.kin("d")
    house.supervision.add(last)
    await eventually(lambda: getattr(last.ward, "process", None), what="the one that came later")
    pids = [pid_of(one) for one in (*family, last)]
    await house.supervision.stop()
    assert house.stopped == ["d", "c", "b", "a"]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert house.said == []


async def test_one_crash_more_than_the_intensity_ends_all_children_and_says_which() -> None:
    house = House(Flags(intensity=2, period=3600))
    family = [house.kin("a"), house.kin("b")]
    await house.supervision.begin(family)
    await kill_and_await_heir(family[0])
    await kill_and_await_heir(family[1])
    os.kill(pid_of(family[0]), signal.SIGKILL)
    await eventually(lambda: house.said, what="its last word")
    await house.supervision.stop()
    assert house.said == ["3 crashes of sleepers in 3600s; the last: a was ended by SIGKILL"]
    assert house.supervision.exceeded == house.said[0]
    assert house.stopped == ["b"]


async def test_a_child_that_ignores_sigterm_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    house, deaf = House(), tmp_path / "deaf"
    kin = house.kin("a", [sys.executable, "-S", "-c", STUBBORN, str(deaf)], shutdown=0.2)
    await house.supervision.begin([kin])
    await eventually(deaf.exists, what="a process that hears nothing")
    pid = pid_of(kin)
    await house.supervision.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("shutdown", [BRUTAL, INFINITY])
async def test_a_child_may_be_killed_at_once_or_waited_for_without_end(shutdown: float) -> None:
    house = House()
    kin = house.kin("a", shutdown=shutdown)
    await house.supervision.begin([kin])
    assert isinstance(kin.ward, Program)
    await house.supervision.stop()
    assert kin.ward.process is not None
    assert kin.ward.process.returncode == (-signal.SIGKILL if shutdown == BRUTAL else -signal.SIGTERM)


async def test_a_child_that_cannot_be_started_at_first_ends_those_before_it() -> None:
    house = House()
    family = [house.kin("a"), house.kin("b", ["/no/such/program"])]
    with pytest.raises(NotStarted, match="b could not be started"):
        await house.supervision.begin(family)
    assert house.stopped == ["a"]


async def test_a_task_that_crashes_its_process_again_and_again_counts_once() -> None:
    started: list[str] = []

    class Place:
        async def start(self) -> None:
            started.append("leave")

        async def stop(self, within: float) -> None:
            started.append("end")

    said: list[str] = []
    supervision = Supervision(Flags(intensity=1, period=3600), said.append)
    await supervision.begin([Kin(Child("slot"), Place(), "handler processes")])
    for number in range(20):
        supervision.crashed("slot", "it crashed", culprit="the same task")
        await eventually(lambda number=number: len(started) == number + 2, what="leave to start another")  # type: ignore[misc]
    assert said == []
    supervision.crashed("slot", "another one crashed", culprit="another task")
    assert said == ["2 crashes of handler processes in 3600s; the last: another one crashed"]
    await supervision.stop()


def test_crashes_of_several_kinds_are_named_with_their_numbers() -> None:
    crashes = [("sleepers", "a"), ("the fork server", "b"), ("sleepers", "c")]
    assert describe_crashes(crashes, 30) == "2 crashes of sleepers, 1 crash of the fork server in 30s; the last: c"


class Model:
    """The pure machine alone: starts and stops take no time."""

    def __init__(self, flags: Flags, names: list[str]) -> None:
        self.supervisor, self.done = Supervisor.make(flags, [Child(name) for name in names]), list[str]()
        self.obey(self.supervisor.begin(0.0))

    def obey(self, commands: list[Command]) -> None:
        todo = list(commands)
        while todo:
            match todo.pop(0):
                case Start(child):
                    self.done.append(f"+{child}")
                    todo += self.supervisor.started(child, 0.0)
                case Stop(child):
                    self.done.append(f"-{child}")
                    todo += self.supervisor.exited(child, Exit.SHUTDOWN, 0.0)
                case Ended():
                    pass


@pytest.mark.parametrize("seed", range(30))
async def test_the_driver_does_what_the_machine_says_whatever_crashes_while_it_starts_and_stops(seed: int) -> None:
    rng, done, alive = random.Random(seed), list[str](), set[str]()
    names = list("abcd")[: rng.randint(1, 4)]
    flags = Flags(intensity=rng.randint(0, 4), period=3600)

    class Slow:
        def __init__(self, name: str) -> None:
            self.name = name

        async def start(self) -> None:
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
            done.append(f"+{self.name}")
            alive.add(self.name)

        async def stop(self, within: float) -> None:
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
            done.append(f"-{self.name}")
            alive.discard(self.name)

    supervision, model = Supervision(flags, lambda _: None), Model(flags, names)
    await supervision.begin([Kin(Child(name), Slow(name), "slow ones") for name in names])
    for _ in range(rng.randint(0, 6)):
        if not alive:
            break
        victim = rng.choice(sorted(alive))
        alive.discard(victim)
        supervision.crashed(victim, "it crashed")
        model.obey(model.supervisor.exited(victim, Exit.ERROR, 0.0))
        for _ in range(20):
            await asyncio.sleep(0)
    await supervision.stop()
    model.obey(model.supervisor.stop(0.0))
    assert done == model.done
    assert bool(supervision.exceeded) == (model.supervisor.ended is End.INTENSITY)
    assert not alive
