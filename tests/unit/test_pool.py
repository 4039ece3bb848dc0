"""The pool in an event loop: owners that end, waiters that give up, members that die, starts that fail or take long."""

import asyncio
import contextlib
import random
import threading
from collections import deque
from dataclasses import dataclass, field

import pytest
from millpond.pool import Pool, PoolClosed, PoolFull, PoolTimeout
from millpond.testing import Clock
from structlog.testing import capture_logs


@dataclass(eq=True)  # equal to others and not hashable, as a user's may be
class Member:
    number: int = 0
    closed: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), compare=False
    )
    ended: bool = False

    async def close(self) -> None:
        self.ended = True

    def die(self) -> None:
        self.closed.set_result(None)


class Works:
    """A factory that notes what it made; `gate` holds starts back, `broken` makes them fail."""

    def __init__(self) -> None:
        self.made: list[Member] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Semaphore(0)
        self.broken = False
        self.kind = Member

    async def make(self) -> Member:
        self.asked.release()
        await self.gate.wait()
        if self.broken:
            raise OSError("no route")
        self.made.append(self.kind())
        return self.made[-1]


async def turns(count: int = 5) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_member_is_checked_out_and_comes_back() -> None:
    works = Works()
    async with Pool(works.make, size=2) as pool:
        member = await pool.checkout()
        assert pool.status().monitors == 1
        pool.checkin(member)
        assert (pool.status().idle, pool.status().state) == (2, "ready")
    assert all(one.ended for one in works.made)


async def test_all_in_use_refuses_who_would_not_wait_and_times_out_who_would() -> None:
    async with Pool(Works().make, size=1) as pool:
        member = await pool.checkout()
        with pytest.raises(PoolFull, match="in use"):
            await pool.checkout(block=False)
        with pytest.raises(PoolTimeout, match=r"within 0.01 s"):
            await pool.checkout(timeout=0.01)
        pool.checkin(member)
        assert await pool.checkout(block=False) is member


async def test_an_owner_that_ends_gives_its_member_back_to_who_waits() -> None:
    async with Pool(Works().make, size=1) as pool:
        has = asyncio.Event()

        async def own() -> None:
            await pool.checkout()
            has.set()
            await asyncio.Event().wait()

        owner = asyncio.create_task(own())
        await has.wait()
        waiter = asyncio.create_task(pool.transaction(lambda member: member, timeout=None))
        await turns()
        assert pool.status().waiting == 1
        owner.cancel()
        assert await waiter is not None
        assert (pool.status().idle, pool.status().monitors) == (1, 0)


async def test_a_waiter_cancelled_in_the_turn_of_its_grant_leaks_nothing() -> None:
    async with Pool(Works().make, size=1) as pool:
        member = await pool.checkout()
        waiter = asyncio.create_task(pool.checkout(timeout=None))
        await turns()
        pool.checkin(member)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert (pool.status().idle, pool.status().monitors) == (1, 0)


async def test_a_waiter_cancelled_in_line_is_passed_over() -> None:
    async with Pool(Works().make, size=1) as pool:
        member = await pool.checkout()
        first, second = (asyncio.create_task(pool.transaction(lambda one: one, timeout=None)) for _ in range(2))
        await turns()
        first.cancel()
        pool.checkin(member)
        assert await second is member
        assert pool.status().idle == 1


async def test_a_second_check_in_does_not_take_the_member_from_its_next_owner() -> None:
    async with Pool(Works().make, size=1) as pool:
        member = await pool.checkout()
        pool.checkin(member)
        has, end = asyncio.Event(), asyncio.Event()

        async def own() -> None:
            mine = await pool.checkout()
            has.set()
            await end.wait()
            pool.checkin(mine)

        owner = asyncio.create_task(own())
        await has.wait()
        pool.checkin(member)
        assert pool.status().monitors == 1
        end.set()
        await owner
        assert pool.status().idle == 1


async def test_a_member_that_dies_in_use_is_replaced_and_its_check_in_is_ignored() -> None:
    works = Works()
    async with Pool(works.make, size=1) as pool:
        member = await pool.checkout()
        waiter = asyncio.create_task(pool.checkout(timeout=None))
        await turns()
        member.die()
        other = await waiter
        assert other is not member
        pool.checkin(member)
        assert pool.status().idle == 0


async def test_a_member_that_died_in_this_very_turn_is_not_lent() -> None:
    works = Works()
    async with Pool(works.make, size=1) as pool:
        dead = works.made[0]
        dead.die()
        assert await pool.checkout() is not dead
    assert not dead.ended


async def test_a_dead_member_that_is_checked_in_goes_to_nobody_and_nobody_loses_its_turn() -> None:
    async with Pool(Works().make, size=1) as pool:
        member, got = await pool.checkout(), list[int]()

        async def wait(number: int) -> None:
            assert await pool.checkout(timeout=None) is not member
            got.append(number)

        waiters = [asyncio.create_task(wait(number)) for number in range(3)]
        await turns()
        member.die()
        pool.checkin(member)
        await asyncio.gather(*waiters)
        assert got == [0, 1, 2]


async def test_the_end_of_a_dismissed_member_is_no_death() -> None:
    class Closing(Member):
        async def close(self) -> None:
            self.die()

    works = Works()
    with capture_logs() as said:
        async with Pool(works.make, size=1, max_overflow=1) as pool:
            await pool.checkout()
            works.kind = Closing
            works.gate.clear()
            with pytest.raises(PoolTimeout):
                await pool.checkout(timeout=0)
            works.gate.set()
            await turns()
            assert [one.closed.done() for one in works.made] == [False, True]
    assert said == []


async def test_a_slow_start_holds_up_nobody() -> None:
    works = Works()
    async with Pool(works.make, size=1, max_overflow=1) as pool:
        member = await pool.checkout()
        works.gate.clear()
        waiter = asyncio.create_task(pool.checkout(timeout=None))
        await works.asked.acquire()
        await works.asked.acquire()
        pool.checkin(member)
        assert await waiter is member
        works.gate.set()
        await turns(20)
        assert (pool.status().overflow, pool.status().idle) == (0, 1)  # the waiter's task has ended
        assert works.made[1].ended


async def test_a_factory_that_fails_is_tried_again_and_told_to_who_gave_up() -> None:
    works = Works()
    # On its own clock: a machine that stalls makes no pause shorter.
    with Clock():
        async with Pool(works.make, size=1) as pool:
            works.broken = True
            (await pool.checkout()).die()
            with pytest.raises(PoolTimeout, match="OSError: no route"):
                await pool.checkout(timeout=0.5)
            works.broken = False
            assert await pool.checkout(timeout=60) is works.made[-1]


async def test_members_that_die_at_once_are_not_made_as_fast_as_the_loop_turns() -> None:
    works = Works()
    with Clock():
        async with Pool(works.make, size=1) as pool:
            for _ in range(50):
                if not works.made[-1].closed.done():
                    works.made[-1].die()
                await turns()
            assert len(works.made) <= 2
            assert await pool.checkout(timeout=60) is works.made[-1]


async def test_a_pool_whose_members_cannot_be_made_does_not_open() -> None:
    works = Works()

    async def third_fails() -> Member:
        works.broken = len(works.made) == 2
        return await works.make()

    with pytest.raises(OSError, match="no route"):
        async with Pool(third_fails, size=3):
            pass
    assert [one.ended for one in works.made] == [True, True]


async def test_closing_tells_who_waits_and_ends_what_is_being_started() -> None:
    works = Works()
    pool = Pool(works.make, size=1, max_overflow=1)
    async with pool:
        await pool.checkout()
        works.gate.clear()
        waiter = asyncio.create_task(pool.checkout(timeout=None))
        await works.asked.acquire()
        await works.asked.acquire()
        asyncio.get_running_loop().call_later(0.01, works.gate.set)
    with pytest.raises(PoolClosed):
        await waiter
    assert [one.ended for one in works.made] == [True, True]
    with pytest.raises(PoolClosed):
        await pool.checkout()


async def test_a_plain_factory_runs_in_a_thread() -> None:
    threads: list[threading.Thread] = []

    def make() -> object:
        threads.append(threading.current_thread())
        return object()

    async with Pool(make, size=1) as pool:
        await pool.transaction(lambda member: member)
    assert threads[0] is not threading.main_thread()


async def test_transaction_checks_in_when_its_work_raises() -> None:
    async with Pool(Works().make, size=1) as pool:

        async def work(_: Member) -> None:
            raise KeyError("work")

        with pytest.raises(KeyError):
            await pool.transaction(work)
        assert pool.status().idle == 1


async def test_what_is_not_warm_is_made_when_it_is_needed_and_stays() -> None:
    works = Works()
    async with Pool(works.make, size=3, warm=1) as pool:
        assert len(works.made) == 1
        members = [await pool.checkout() for _ in range(3)]
        for member in members:
            pool.checkin(member)
        assert (pool.status().idle, len(works.made)) == (3, 3)
        for member in members:
            member.die()
        await turns()
        assert (pool.status().idle, len(works.made)) == (1, 4)


async def test_a_pool_that_is_opened_without_waiting_serves_when_its_first_start_is_over() -> None:
    works = Works()
    works.gate.clear()
    pool = Pool(works.make, size=2)
    pool.open()
    waiter = asyncio.create_task(pool.transaction(lambda member: member, timeout=None))
    await works.asked.acquire()
    assert pool.status().idle == 0
    works.gate.set()
    assert await waiter in works.made
    await pool.close()
    assert all(one.ended for one in works.made)


async def test_a_member_that_is_dismissed_is_ended_and_replaced_and_its_waiter_served() -> None:
    works = Works()
    async with Pool(works.make, size=1) as pool:
        member = await pool.checkout()
        waiter = asyncio.create_task(pool.checkout(timeout=None))
        await turns()
        pool.dismiss(member)
        pool.dismiss(member)
        pool.checkin(member)
        assert await waiter is works.made[1]
        assert works.made[0].ended
        assert len(works.made) == 2


async def test_ten_thousand_check_outs_by_200_tasks_leak_nothing_while_members_and_owners_die() -> None:
    rng, works, owned = random.Random(7), Works(), set[int]()
    order: list[int] = []

    async with Pool(works.make, size=6, max_overflow=2, strategy="fifo") as pool:

        async def client() -> None:
            for _ in range(50):
                member = await pool.checkout(timeout=None)
                assert id(member) not in owned
                owned.add(id(member))
                await asyncio.sleep(0)
                order.append(len(order))
                owned.discard(id(member))
                fate = rng.random()
                if fate < 0.02 and not member.closed.done():
                    member.die()
                if fate < 0.9:
                    pool.checkin(member)
                elif fate < 0.95:
                    pool.checkin(member)
                    pool.checkin(member)
                else:
                    # An owner of its own, which ends without a check-in.
                    pool.checkin(member)
                    await asyncio.create_task(careless())

        async def careless() -> None:
            await pool.checkout(timeout=None)

        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(client())
        await turns(50)
        status = pool.status()
        assert len(order) == 10_000
        assert (status.monitors, status.waiting, status.overflow) == (0, 0, 0)
        assert status.idle == 6
    assert all(one.ended or one.closed.done() for one in works.made)


async def test_ten_thousand_check_outs_by_200_clients_over_8_members_while_one_a_second_is_killed() -> None:
    """Minutes of its own clock: none leaked, none owned twice, waiters served in their order."""
    rng, works = random.Random(8), Works()
    owned: dict[int, Member] = {}
    line: deque[object] = deque()
    served = killed = 0

    async def client(pool: Pool[Member]) -> None:
        nonlocal served
        for _ in range(50):
            ticket = object()
            line.append(ticket)
            member = await pool.checkout(timeout=None)
            assert line.popleft() is ticket
            assert member.number not in owned
            owned[member.number] = member
            await asyncio.sleep(rng.uniform(0.01, 0.1))
            served += 1
            del owned[member.number]
            pool.checkin(member)

    async def killer() -> None:
        nonlocal killed
        while True:
            await asyncio.sleep(1.0)
            owned[rng.choice(sorted(owned))].die()
            killed += 1

    async def numbered() -> Member:
        await asyncio.sleep(0.05)  # a start takes its time, and holds up nobody
        member = await works.make()
        member.number = len(works.made)
        return member

    with Clock() as clock:
        async with Pool(numbered, size=8) as pool:
            killing = asyncio.create_task(killer())
            await asyncio.gather(*(client(pool) for _ in range(200)))
            killing.cancel()
            await asyncio.sleep(1.0)
            assert served == 10_000
            assert killed >= int(clock.elapsed) - 2 >= 60
            assert (pool.status().idle, pool.status().monitors, pool.status().waiting) == (8, 0, 0)
            assert len(works.made) == 8 + killed
    assert all(one.ended or one.closed.done() for one in works.made)


class Echo:
    """A child process that says what it hears."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.closed = asyncio.ensure_future(process.wait())

    async def say(self, word: str) -> str:
        """The answer; empty when the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(f"{word}\n".encode())
            await self.process.stdin.drain()
        return (await self.process.stdout.readline()).decode().strip()

    async def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await asyncio.shield(self.closed)


async def test_real_processes_that_are_killed_are_replaced_and_each_client_hears_its_own_word() -> None:
    made: list[Echo] = []
    heard, silent = 0, 0

    async def make() -> Echo:
        pipe = asyncio.subprocess.PIPE
        made.append(Echo(await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)))
        return made[-1]

    async def client(pool: Pool[Echo], number: int) -> None:
        nonlocal heard, silent
        for turn in range(10):
            echo = await pool.checkout(timeout=None)
            word = f"{number}-{turn}"
            if turn == 5:
                echo.process.kill()
                assert await echo.say(word) in ("", word)
                silent += 1
            else:
                assert await echo.say(word) == word
                heard += 1
            if turn == 5:
                await asyncio.shield(echo.closed)
            pool.checkin(echo)

    async with Pool(make, size=4) as pool:
        await asyncio.gather(*(client(pool, number) for number in range(10)))
        assert (heard, silent) == (90, 10)
        assert (pool.status().monitors, pool.status().waiting) == (0, 0)
    assert len(made) >= 4 + silent - 1
    assert all(one.process.returncode is not None for one in made)
