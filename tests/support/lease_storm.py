"""Many check-outs by many clients over a few worker processes, while workers are killed and replaced.

Owns one storm and what is counted of it: clients served, leases lost, slots owned twice at a time (read from what the
calls wrote), waiters overtaken, slots that are not free at the end. Each worker has one slot. A worker that is killed
takes back nothing: what it had comes again after the message's lease.
"""

import asyncio
import contextlib
import itertools
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from millpond import Client, LeaseLost
from millpond_api.lifecycle import TaskState

from tests.support.workers import START, Mill, WorkerProcess

APP = "tests.support.lease_app:app"


@dataclass(frozen=True)
class Plan:
    """`kill_every`: seconds between two SIGKILLs; 0: nobody is killed."""

    checkouts: int
    clients: int
    workers: int
    kill_every: float
    calls: int = 2
    ttl: float = 10.0
    seed: int = 1


@dataclass(frozen=True)
class Served:
    """A client that was served: its place in the queue, the grant's token, and whether its log tells of another one."""

    place: int
    token: int
    hit: bool


@dataclass
class Report:
    """What happened."""

    served: list[Served] = field(default_factory=list)
    lost: int = 0
    killed: int = 0
    wrong: list[str] = field(default_factory=list)
    """Calls whose lease had a state that was not its own."""
    leaked: int = 0
    twice: list[str] = field(default_factory=list)

    def overtakes(self) -> list[int]:
        """For each waiter that was served at its first grant: how many who came later were granted before it."""
        granted = sorted((one for one in self.served if not one.hit), key=lambda one: one.token)
        return [
            sum(1 for before in granted[max(0, index - 500) : index] if before.place > one.place)
            for index, one in enumerate(granted)
        ]


class Storm:
    """One run on the pool of a `Mill`."""

    def __init__(self, mill: Mill, plan: Plan) -> None:
        self._mill, self._plan, self.report = mill, plan, Report()
        self._left = iter(range(plan.checkouts))
        self._names = itertools.count(1)
        self._alive: list[WorkerProcess] = []
        self._random = random.Random(plan.seed)

    async def run(self) -> Report:
        """From the first worker's start until every slot is free again."""
        plan = self._plan
        started = [await self._start() for _ in range(plan.workers)]
        for worker in started:
            await self._mill.reaches(worker, "Idle", passed=True)
        killing = asyncio.create_task(self._kill()) if plan.kill_every else None
        try:
            async with contextlib.AsyncExitStack() as stack:
                await asyncio.gather(*[self._be_client(await self._connect(stack)) for _ in range(plan.clients)])
        finally:
            if killing:
                killing.cancel()
                await asyncio.wait((killing,))
        await self._settle()
        self.report.twice = [said for path in self._mill.directory.glob("*.calls") for said in find_twice(path)]
        return self.report

    async def _connect(self, stack: contextlib.AsyncExitStack) -> Client:
        opening = Client.connect(self._mill.server.url, namespace=self._mill.queue.namespace)
        return await stack.enter_async_context(opening)

    async def _start(self) -> WorkerProcess:
        leases = json.dumps({"ttl": self._plan.ttl})
        worker = self._mill.spawn(f"s{next(self._names)}", app=APP, concurrency=1, leases=leases, beat=1.0)
        self._alive.append(worker)
        return worker

    async def _kill(self) -> None:
        """One worker after the other, each replaced at once, and never the last one that serves: where a start takes
        longer than the time between two kills, nobody would ever be served."""
        while True:
            await asyncio.sleep(self._plan.kill_every)
            serving = [one for one in self._alive if await self._serves(one)]
            if len(serving) < 2:
                continue
            victim = self._random.choice(serving)
            self._alive.remove(victim)
            await asyncio.to_thread(victim.kill)
            self.report.killed += 1
            await self._start()

    async def _serves(self, worker: WorkerProcess) -> bool:
        """Whether it has come up."""
        return any(event.state == "Idle" for event in await self._mill.states(worker.name))

    async def _be_client(self, client: Client) -> None:
        for _ in self._left:
            await self._check_out(client)

    async def _check_out(self, client: Client) -> None:
        """One check-out with its calls; a lease that is lost counts, and is not tried again."""
        directory, pool = str(self._mill.directory), self._mill.queue.pool
        try:
            async with client.checkout(pool, timeout=None) as worker:
                place, lease, token = worker.place, worker.id, worker.token
                for number in range(1, self._plan.calls + 1):
                    found = await worker.call("touch", directory)
                    if found != number:
                        self.report.wrong.append(f"call {number} of lease {lease} was call {found} of its state")
        except LeaseLost:
            self.report.lost += 1
            return
        events = await client.handle(pool, lease).events()
        grants = [event for event in events if event.state == TaskState.RUNNING]
        self.report.served.append(Served(place, token, hit=len(grants) != 1))

    async def _settle(self) -> None:
        """Until the queue is empty and every worker that lives is idle; what is not, by then, is leaked."""
        await self._mill.is_empty()
        try:
            async with asyncio.timeout(START):
                for worker in self._alive:
                    await self._mill.reaches(worker, "Idle")
        except (TimeoutError, AssertionError):
            self.report.leaked = sum([await self._is_taken(worker) for worker in self._alive])

    async def _is_taken(self, worker: WorkerProcess) -> bool:
        states = await self._mill.states(worker.name)
        return not states or states[-1].state != "Idle"


def find_twice(path: Path) -> list[str]:
    """Where calls of two leases of one worker, which has one slot, were not one lease after the other."""
    found: list[str] = []
    over: set[int] = set()
    amid = last = 0
    for line in path.read_text().splitlines():
        token, step, _ = json.loads(line)
        if step == "begin":
            if amid or token in over:
                found.append(f"{path.stem}: a call under {token} began amid, or after, one under {amid or last}")
            if token != last:
                over.add(last)
            last = token
        amid = token if step == "begin" else 0
    return found
