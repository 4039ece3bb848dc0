"""A worker's child processes under SIGKILL, each kind of them: started again, and beyond the intensity the end."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from millpond import RetryPolicy, TaskFailed
from millpond_api.supervision.pod import EXIT_CODE, REASON

from tests.support.eventually import eventually
from tests.support.workers import LEASE, START, Mill, WorkerProcess

APP = "tests.support.isolated_app:app"


async def call(mill: Mill, handler: str, *args: Any, **options: Any) -> Any:
    task = await mill.client.submit(mill.queue.pool, handler, list(args), **options)
    return await task.result(timeout=START)


def children(worker: WorkerProcess, word: str) -> list[int]:
    """The worker's own child processes with the word on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == worker.process.pid and word in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            # No process, or gone since.
            continue
    return found


async def kill_child(worker: WorkerProcess, word: str) -> int:
    """SIGKILL it, wait for another one in its place; the new one's pid."""
    before = await eventually(lambda: children(worker, word), START, f"a child {word}")
    os.kill(before[0], signal.SIGKILL)
    heirs = await eventually(
        lambda: [pid for pid in children(worker, word) if pid not in before], START, f"another {word}"
    )
    return int(heirs[0])


async def test_a_killed_understudy_is_started_again_and_the_heir_keeps_the_leases(mill: Mill) -> None:
    worker = await mill.start("w1", app=APP)
    await kill_child(worker, "understudy.py")
    await mill.start("w2", app=APP)
    task = await mill.client.submit(mill.queue.pool, "thread.hold-gil", [3 * LEASE])
    assert await task.result(timeout=START) == "held"
    assert [event.state for event in await mill.log_of(task.id)] == ["Running", "Succeeded"]
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert children(worker, "") == []


async def test_a_killed_fork_server_costs_the_running_attempts_and_counts_once(mill: Mill) -> None:
    """Four children end with it; with an intensity of 1 that must be one crash."""
    worker = await mill.start("w1", app=APP, concurrency=4, restart_intensity=1)
    assert (await call(mill, "process.whoami"))["attempt"] == 1
    await kill_child(worker, "multiprocessing.forkserver")
    assert (await call(mill, "process.whoami"))["attempt"] == 1
    assert worker.process.poll() is None
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_a_task_that_crashes_its_process_each_time_is_dead_before_its_pod(mill: Mill) -> None:
    """Four attempts, four crashes, an intensity of one: the task is Failed, the worker goes on."""
    worker = await mill.start("w1", app=APP, concurrency=2, restart_intensity=1)
    policy = RetryPolicy(max_attempts=4, initial=0.01, jitter=0.0)
    with pytest.raises(TaskFailed) as failure:
        await call(mill, "process.crash", "segfault", retry=policy)
    assert (failure.value.type, failure.value.attempts) == ("WorkerProcessDied", 4)
    assert (await call(mill, "process.whoami"))["attempt"] == 1
    assert worker.process.poll() is None


async def test_a_process_that_is_killed_on_purpose_is_no_crash(mill: Mill) -> None:
    worker = await mill.start("w1", app=APP, concurrency=1, restart_intensity=0, process_tasks=2)
    for _ in range(2):
        with pytest.raises(TaskFailed) as failure:
            await call(mill, "process.stubborn", 10 * START, timeout=0.5)
        assert failure.value.type == "HardTimeout"
    pids = {(await call(mill, "process.whoami"))["pid"] for _ in range(4)}
    assert len(pids) > 1
    assert worker.process.poll() is None


async def test_more_crashes_than_the_intensity_end_the_worker_which_gives_back_what_it_runs(
    mill: Mill, tmp_path: Path
) -> None:
    words = tmp_path / "termination-log"
    words.touch()
    gate = mill.gate("waiting")
    worker = await mill.start(
        "w1", app=APP, concurrency=3, restart_intensity=1, restart_period=600, termination_log=words
    )
    kept = await mill.client.submit(mill.queue.pool, "process.heed", [gate.path])
    await gate.entered()
    crashed = [await mill.client.submit(mill.queue.pool, "process.crash", ["segfault"]) for _ in range(2)]
    assert await worker.ended() == EXIT_CODE
    said = "2 crashes of handler processes in 600s; the last: the handler's process was ended by SIGSEGV"
    assert words.read_text().startswith(said)
    last = (await mill.states("w1"))[-1]
    assert (last.state, last.reason) == ("Failed", REASON)
    assert last.message.startswith(said)
    for task in crashed:
        with pytest.raises(TaskFailed) as failure:
            await task.result(timeout=START)
        assert failure.value.type == "WorkerProcessDied"
    assert (await mill.story(kept.id))[-2:] == ["Running(1)@w1", "Queued(1)@w1"]
    heir = await mill.start("w2", app=APP, concurrency=1)

    async def begun() -> bool:
        return (await mill.story(kept.id))[-1] == "Running(1)@w2"

    await eventually(begun, START, "the heir's claim")
    await kept.cancel("seen")
    assert heir.process.poll() is None


async def test_a_worker_that_is_told_to_stop_ends_its_children_and_none_of_it_is_a_crash(mill: Mill) -> None:
    worker = await mill.start("w1", app=APP, concurrency=2, restart_intensity=0)
    await asyncio.gather(*(call(mill, "process.whoami") for _ in range(4)))
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert "a child process ended" not in worker.text()
    assert [event.state for event in await mill.states("w1")][-1] == "Stopped"
