"""Handlers' processes: what of their starts and ends the pod's supervisor is told."""

import asyncio
import threading
from typing import Any, cast

import pytest
from millpond.settings import Settings
from millpond.worker import processes
from millpond.worker.supervising import Kin, Supervision

from tests.support.eventually import eventually

START = 60.0


class Told:
    """In a supervisor's place: starts what is added, and keeps what it is told."""

    def __init__(self) -> None:
        self.crashes: list[str] = []
        self.starting: list[asyncio.Task[None]] = []

    def add(self, kin: Kin) -> None:
        self.starting.append(asyncio.ensure_future(kin.ward.start()))

    def crashed(self, name: str, why: str, task: str = "") -> None:
        self.crashes.append(name)


async def test_starts_that_meet_a_dying_server_are_one_crash_of_it_and_the_next_server_s_end_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together, again = threading.Barrier(3), threading.Event()
    asked = threading.Semaphore(0)
    rounds = iter([1, 1, 1, 2])

    def make_parts(*_: Any) -> Any:
        if next(rounds, 3) == 1:
            together.wait(START)
            raise EOFError("unexpected EOF")
        asked.release()
        again.wait(START)
        raise ConnectionResetError

    monkeypatch.setattr(processes, "make_parts", make_parts)
    told = Told()
    settings = Settings(nats_url="nats://nowhere", app="a:b", namespace="ns", pool="p", worker="w", concurrency=3)
    executor = processes.ProcessExecutor(settings, lambda *_: None, lambda _: None, cast(Supervision, told))
    executor.open()
    # They are asked for again once the first three have failed.
    assert await asyncio.to_thread(asked.acquire, True, START)
    assert told.crashes == ["fork server"]
    again.set()
    await eventually(lambda: len(told.crashes) > 1, START, "the end of the next server")
    assert set(told.crashes) == {"fork server"}
    await executor.stop()
