"""The faults, each done to a pool of its own on a nats-server of its own, and the reading of what is left.

Owns the workers' processes (those that kill themselves are started again, under a new name, so that a name in a log is
one process), the submission and the strikes from outside. It judges nothing. Seconds everywhere.
"""

import asyncio
import signal
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from millpond import TaskHandle, gather
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.events import TaskEvent

from bench.faults.app import read_record
from bench.faults.judge import Case, Verdict, judge, parse_record
from tests.support.nats import NatsServer
from tests.support.workers import LEASE, Mill, WorkerProcess, running_mill

WORKERS, SLOTS = 2, 4
HOLD = 3 * LEASE
"""For how long a handler blocks its loop or holds the interpreter."""
LONG_HOLD = 60.0
"""The same in the long faults, which have the lease that a pool has when nobody says otherwise."""
WORK = 0.02
ROUNDS = 10
"""At most so many strikes of the kinds that cost seconds each."""
LOOK = 0.05
PATIENCE = 600.0
"""Seconds for the last task after the last strike: recovery is slow on a busy machine, and only counts matter here."""
STEPS = tuple(f"{when} {what}" for what in ("claim", "commit", "ack") for when in ("before", "after"))


@dataclass
class Site:
    """One run."""

    mill: Mill
    tasks: int
    strikes: int
    record: Path
    handles: list[TaskHandle] = field(default_factory=list)
    done: int = 0
    """Strikes from outside."""
    workers: list[WorkerProcess] = field(default_factory=list)

    def hire(self, **settings: Any) -> WorkerProcess:
        """A worker more, under a name that none had before. Many strikes must not make a task look poisonous."""
        known = {"app": "bench.faults.app:app", "fault_record": self.record, "concurrency": SLOTS}
        name = f"w{len(self.workers)}"
        self.workers.append(self.mill.spawn(name, **known, poison_limit=1000, **settings))
        return self.workers[-1]

    async def hire_all(self, **settings: Any) -> None:
        for worker in [self.hire(**settings) for _ in range(WORKERS)]:
            await self.mill.reaches(worker, "Idle", passed=True)

    async def submit(self, handler: str, arguments: Sequence[object]) -> None:
        self.handles += await self.mill.client.submit_many(self.mill.queue.pool, handler, [[one] for one in arguments])

    def runs(self, begin: int = 0) -> list[tuple[str, str]]:
        """(task, worker) of each run since the record had `begin` of them."""
        return [(words[1], words[3]) for words in read_record(self.record) if words[0] == "begin"][begin:]

    async def until(self, begin: int, enough: Callable[[list[tuple[str, str]]], bool]) -> None:
        """Until the runs since then are enough."""
        async with asyncio.timeout(PATIENCE):
            while not enough(self.runs(begin)):  # noqa: ASYNC110  # other processes write the record
                await asyncio.sleep(LOOK)

    def every(self, strikes: int) -> int:
        """So many tasks for each strike."""
        return max(1, self.tasks // strikes)


async def kill_at(site: Site, step: str) -> None:
    """Workers kill themselves at one step of the protocol, again and again, and are started again."""
    # A little more often than needed: what a killed worker had done of its way is lost to the count.
    every = max(1, site.tasks // (site.strikes + 2))
    await site.submit("work", [WORK] * site.tasks)
    ends = asyncio.ensure_future(await_ends(site.handles))
    living: list[WorkerProcess] = []
    while not ends.done():
        living = [worker for worker in living if worker.process.poll() is None]
        while len(living) < WORKERS:
            armed = len(site.workers) < site.strikes
            living.append(site.hire(fault_step=step, fault_every=every) if armed else site.hire())
        await asyncio.sleep(LOOK)
    await ends


async def run_out_of_memory(site: Site) -> None:
    """Every so many tasks need more memory than their process may have, or are killed as the kernel does it."""
    await site.hire_all(process_memory=64 << 20)
    every = site.every(site.strikes)
    kinds = [
        ("memory" if number // every % 2 else "killed") if number % every == 0 else "" for number in range(site.tasks)
    ]
    await site.submit("hungry", kinds)


async def hold(site: Site, handler: str, seconds: float = HOLD) -> None:
    """Every so many tasks hold up what they run in."""
    await site.hire_all()
    every = site.every(min(site.strikes, ROUNDS))
    await site.submit(handler, [seconds if number % every == every // 2 else 0 for number in range(site.tasks)])


async def kill_server(site: Site) -> None:
    """SIGKILL of nats-server while tasks run, and a new one on the same data."""
    await site.hire_all()
    for share in shares(site.tasks, min(site.strikes, ROUNDS)):
        begun = len(site.runs())
        await site.submit("work", [WORK] * share)
        await site.until(begun, partial(has_more, share // 3))
        site.mill.server.kill9()
        site.done += 1
        await asyncio.to_thread(site.mill.server.start)


async def stop_and_continue(site: Site) -> None:
    """A worker is stopped amid its tasks until another has one of them, or all: then it goes on, a second owner."""
    await site.hire_all()
    for number, share in enumerate(shares(site.tasks, min(site.strikes, ROUNDS))):
        await stop_once(site, site.workers[number % WORKERS], share, wait_for_all=bool(number % 2))


async def stop_once(site: Site, victim: WorkerProcess, share: int, *, wait_for_all: bool) -> None:
    """One round. The first tasks run for longer, so that both owners are at it when the stopped one goes on."""
    begun, before = len(site.runs()), len(site.handles)
    longer = min(share, SLOTS * WORKERS)
    await site.submit("work", [LEASE / 4] * longer + [WORK] * (share - longer))
    await site.until(begun, lambda runs: any(worker == victim.name for _, worker in runs))
    victim.signal(signal.SIGSTOP)
    site.done += 1
    mine = {task for task, worker in site.runs(begun) if worker == victim.name}
    if wait_for_all:
        await await_ends(site.handles[before:])
    else:
        await site.until(begun, partial(has_heirs, mine))
    victim.signal(signal.SIGCONT)


async def await_ends(handles: Sequence[TaskHandle]) -> list[object]:
    """What the client is given for each: a result, or an error (a time that is over, too)."""
    return await gather(*handles, timeout=PATIENCE, return_exceptions=True)


def has_more(count: int, runs: Sequence[tuple[str, str]]) -> bool:
    return len(runs) > count


def has_heirs(mine: set[str], runs: Sequence[tuple[str, str]]) -> bool:
    """Whether a task of `mine` was begun by a second worker."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for task, worker in runs:
        owners[task].add(worker)
    return any(len(owners[task]) > 1 for task in mine)


def shares(total: int, parts: int) -> list[int]:
    """`total` in so many parts, none of them empty as far as it goes."""
    return [share for share in (total * (n + 1) // parts - total * n // parts for n in range(parts)) if share]


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    strike: Callable[[Site], Awaitable[None]]
    lease: float = LEASE


FAULTS = (
    *(Fault(f"SIGKILL {step}", partial(kill_at, step=step)) for step in STEPS),
    Fault("OOM in a handler's process", run_out_of_memory),
    Fault("blocked loop", partial(hold, handler="block")),
    Fault("GIL held in C", partial(hold, handler="hog")),
    Fault("SIGKILL of nats-server", kill_server),
    Fault("two owners (SIGSTOP, SIGCONT)", stop_and_continue),
)
_DEFAULT_LEASE = QueueConfig("", "").lease
LONG_FAULTS = (
    Fault("loop blocked for 60 s", partial(hold, handler="block", seconds=LONG_HOLD), _DEFAULT_LEASE),
    Fault("GIL held in C for 60 s", partial(hold, handler="hog", seconds=LONG_HOLD), _DEFAULT_LEASE),
)
"""Minutes each: for a few tasks, not for a thousand."""


async def run(fault: Fault, tasks: int, strikes: int) -> Verdict:
    """Do it, wait for the end of everything, and count."""
    async with _open_site(tasks, strikes, fault.lease) as site:
        await fault.strike(site)
        results = await await_ends(site.handles)
        received = {handle.id: result for handle, result in zip(site.handles, results, strict=True)}
        left = await _await_empty(site.mill)
        logs = await _read_logs(site.mill)
        again = await _count_redelivered(site.mill)
        case = Case(fault.name, [one.id for one in site.handles], logs, received, left, site.done, again)
        return judge(case, parse_record(read_record(site.record)))


@asynccontextmanager
async def _open_site(tasks: int, strikes: int, lease: float) -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(prefix="millpond-faults-") as directory:
        server = NatsServer().start()
        try:
            queue = QueueConfig("bench", "mill", lease=lease)
            async with running_mill(server, queue, Path(directory)) as mill:
                yield Site(mill, tasks, strikes, Path(directory) / "record")
        finally:
            server.remove()


async def _await_empty(mill: Mill, patience: float = 60.0) -> int:
    """Messages left in the queue when it is empty or the time is over."""
    for _ in range(int(patience / LOOK)):
        if not (left := await mill.depth()):
            return 0
        await asyncio.sleep(LOOK)
    return left


async def _count_redelivered(mill: Mill) -> int:
    """Deliveries beyond the first of each message: leases that ran out, and messages that were given back."""
    stream = subjects.pool_stream(mill.queue.namespace, mill.queue.pool)
    info: Any = await mill.client.transport.api(f"CONSUMER.INFO.{stream}.{subjects.consumer(mill.queue.classes[0])}")
    return int(info["delivered"]["consumer_seq"]) - int(info["delivered"]["stream_seq"])


async def _read_logs(mill: Mill) -> dict[str, list[TaskEvent]]:
    """By task, in the order in which the server stored them."""
    everything = subjects.task_events(mill.queue.namespace, mill.queue.pool, "x").removesuffix("x") + "*"
    logs: defaultdict[str, list[TaskEvent]] = defaultdict(list)
    async for stored in mill.client.transport.read_range(subjects.STREAM_EVENTS, everything):
        logs[stored.subject.rpartition(".")[2]].append(TaskEvent.decode(stored.body))
    return logs
