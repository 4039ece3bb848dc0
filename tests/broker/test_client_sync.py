"""The synchronous client: the same words from threads without a loop, errors in the caller's frame, safe to fork."""

import asyncio
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from millpond import LetterFilter, NotConnected, QueueFull, ResultTimeout, TaskFailed, sync
from millpond_api.broker import QueueConfig

from tests.support.bed import LEASE, START, Bed, open_bed
from tests.support.eventually import eventually_sync
from tests.support.nats import NatsServer
from tests.support.nats_ground import NatsGround


@pytest.fixture
async def bed(nats_server: NatsServer, namespace: str) -> AsyncIterator[Bed]:
    """A bed with a worker whose handlers the tests below use."""
    ground = NatsGround(nats_server)
    async with open_bed(ground, QueueConfig(namespace, "mill", lease=LEASE)) as bed:

        @bed.app.task("double")
        async def double(number: int) -> int:
            if number < 0:
                raise ValueError("negative")
            return 2 * number

        yield bed
    ground.close()


@pytest.fixture
def mill(bed: Bed, nats_server: NatsServer) -> sync.Client:
    """A client as a module would hold it: not connected yet."""
    return sync.Client(nats_server.url, namespace=bed.queue.namespace)


async def test_every_word_works_from_a_thread_without_a_loop(bed: Bed, mill: sync.Client) -> None:
    await bed.start_worker(retry={"max_attempts": 1})

    def script() -> None:
        caller = threading.get_ident()
        readers: list[int] = []

        def items() -> list[int]:
            readers.append(threading.get_ident())
            return list(range(30))

        with mill:
            task = mill.submit("mill", "double", [21], task_id="one")
            assert task.result(timeout=START) == 42
            assert (task.status().state, task.wait(START).finished) == ("Succeeded", True)
            assert [event.state for event in mill.handle("mill", "one").events()] == ["Running", "Succeeded"]
            assert [at.state for at in task.progress()] == ["Succeeded"]
            assert list(mill.map("mill", "double", (n for n in items()), in_flight=8)) == [2 * n for n in range(30)]
            assert readers == [caller]
            many = mill.submit_many("mill", "double", [[n] for n in range(10)])
            assert sync.gather(*many, timeout=START) == [2 * n for n in range(10)]
            assert {one.id for one in sync.as_completed(many, timeout=START)} == {one.id for one in many}
            later = mill.submit("mill", "double", [1], delay=3600)
            assert later.cancel("not needed")
            with pytest.raises(TaskFailed) as failure:
                mill.submit("mill", "double", [-1]).result(timeout=START)
            # The frames of the caller are in it, not only those of a background thread.
            assert "script" in [frame.name for frame in traceback.extract_tb(failure.value.__traceback__)]
        with pytest.raises(NotConnected, match="client is closed"):
            mill.submit("mill", "double", [1])

    await asyncio.to_thread(script)


async def test_dead_letters_and_the_catalogue_are_there_without_a_loop(bed: Bed, mill: sync.Client) -> None:
    await bed.start_worker(retry={"max_attempts": 1})

    def script() -> None:
        dead, task = mill.dead("mill"), mill.submit("mill", "double", [-1])
        eventually_sync(lambda: mill.handlers("mill").get("double"), START, "the catalogue")
        # A letter is a consequence: it is stored a moment after the outcome.
        eventually_sync(lambda: list(dead.list()), START, "a dead letter")
        letter = dead.read(task.id)
        assert (letter.error.message, dead.losses(letter)) == ("negative", None)
        assert [one.done for one in dead.redrive(LetterFilter(handler="double"))] == ["redriven"]
        assert task.wait(START).attempts == 2
        assert eventually_sync(dead.purge, START, "another")[0].task == task.id
        assert list(dead.list()) == []
        mill.close()

    await asyncio.to_thread(script)


async def test_threads_share_one_connection(bed: Bed, mill: sync.Client) -> None:
    await bed.start_worker()

    def work(number: int) -> tuple[int, object]:
        return mill.submit("mill", "double", [number]).result(timeout=START), mill._link

    def script() -> None:
        with ThreadPoolExecutor(8) as threads:
            done = list(threads.map(work, range(40)))
        assert [result for result, _ in done] == [2 * number for number in range(40)]
        assert len({id(link) for _, link in done}) == 1
        mill.close()

    await asyncio.to_thread(script)


async def test_errors_say_what_they_are_and_a_wait_ends_in_time(bed: Bed, mill: sync.Client) -> None:
    await bed.change_pool(max_depth=1)

    def script() -> None:
        task = mill.submit("mill", "double", [1])
        with pytest.raises(ResultTimeout, match=r"0\.1 s"):
            task.result(timeout=0.1)
        with pytest.raises(QueueFull):
            mill.submit("mill", "double", [1])
        mill.close()
        with pytest.raises(NotConnected, match="no NATS server"):
            sync.Client("nats://127.0.0.1:1", namespace="ns", timeout=0.3).submit("mill", "double")

    await asyncio.to_thread(script)


async def test_call_in_an_event_loop_is_refused_instead_of_blocking_it(mill: sync.Client) -> None:
    with pytest.raises(RuntimeError, match=r"use millpond\.Client"):
        mill.submit("mill", "double", [1])


async def test_client_outlives_a_killed_server(own_nats_server: NatsServer, namespace: str) -> None:
    ground = NatsGround(own_nats_server)
    async with open_bed(ground, QueueConfig(namespace, "mill", lease=LEASE)) as bed:
        bed.app.task("double")(lambda number: 2 * number)
        await bed.start_worker()
        mill = sync.Client(own_nats_server.url, namespace=namespace)

        def call(number: int) -> int:
            result: int = mill.submit("mill", "double", [number]).result(timeout=START)
            return result

        assert await asyncio.to_thread(call, 1) == 2
        own_nats_server.kill9()
        waiting = asyncio.create_task(asyncio.to_thread(call, 2))
        await asyncio.to_thread(own_nats_server.start)
        assert await waiting == 4
        await asyncio.to_thread(mill.close)
    ground.close()


FORKING = """
import os, sys
from millpond import sync

url, namespace = sys.argv[1:]
mill = sync.Client(url, namespace=namespace)                     # preloaded, as a gunicorn master does
assert mill.submit("mill", "double", [1]).result(timeout=60) == 2
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        task = mill.submit("mill", "double", [number])
        ok = task.result(timeout=60) == 2 * number and list(mill.map("mill", "double", [number])) == [2 * number]
        print(f"child {number} ok" if ok else "wrong", flush=True)
        sys.exit(0)                                              # with everything that runs at exit
    children.append(child)
assert mill.submit("mill", "double", [5]).result(timeout=60) == 10
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
assert mill.submit("mill", "double", [6]).result(timeout=60) == 12, "the children's ends hurt the parent"
print("parent ok")
"""


async def test_forked_child_has_a_connection_of_its_own_and_leaves_the_parents_alone(
    bed: Bed, nats_server: NatsServer
) -> None:
    await bed.start_worker()
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", FORKING, nats_server.url, bed.queue.namespace]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [*(f"child {number} ok" for number in range(3)), "parent ok"]
    assert "Traceback" not in done.stderr
