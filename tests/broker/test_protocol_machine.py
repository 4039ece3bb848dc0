"""The worker's protocol code on a real nats-server, through random interleavings of crashes, zombies and cancels.

The model (tests/support/protocol_model.py) says that the rules are right; this says that `outcomes`, `journal` and the
client keep them on the real server. At the end of each run all workers are dead and one cleans up: one outcome must
stand, recorded once, the queue and the delays empty, a dead letter exactly when the task failed.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from millpond.transport import Transport
from millpond_api import subjects
from millpond_api.events import TaskEvent, utc_now
from millpond_api.lifecycle import TERMINAL, TaskState, task_may

from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.support.protocol_bench import POOL, Bench, Slot

T = TypeVar("T")
FRESH = TaskEvent(state=TaskState.QUEUED, at=utc_now())
"""What a submission stands for: it writes no event."""
WORKERS = st.sampled_from([0, 1])


@dataclass(frozen=True)
class Choices:
    """`expire` leases before a delivery; whether a claim or commit is `confirmed`; how the handler ends."""

    expire: bool
    confirmed: bool
    end: str


CHOICES = st.builds(
    Choices,
    expire=st.booleans(),
    # Answers arrive more often than not, else hardly a run gets to its end.
    confirmed=st.sampled_from([True, True, True, False]),
    end=st.sampled_from(["fail", "fail", "fail", "succeed", "release", "snooze"]),
)


class ProtocolMachine(RuleBasedStateMachine):
    """A rule is one step of the protocol by one of the two workers, or something that happens to them."""

    def __init__(self, url: str, runner: asyncio.Runner, transport: Transport) -> None:
        super().__init__()
        self.runner = runner
        self.bench = self.run(Bench.create(url, transport))
        self.recorded: list[TaskEvent] = []
        self.troubles: set[str] = set()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(step)

    # What is drawn must not depend on what the server did (it is not exactly repeatable): so one rule for a worker's
    # next steps, whatever they are, with all the choices that any step may need. Several at once, because a run that
    # gets past the claim must be as common as one that does not.
    @rule(w=WORKERS, steps=st.lists(CHOICES, min_size=1, max_size=6))
    def advance(self, w: int, steps: list[Choices]) -> None:
        for choices in steps:
            self.step(self.bench.slots[w], choices)

    def step(self, slot: Slot, choices: Choices) -> None:
        match slot.step:
            case "idle":
                self.run(self.deliver(slot, choices.expire))
            case "got":
                if self.run(self.bench.claim(slot)) and not choices.confirmed:
                    slot.step = "got"
            case "run" if choices.end == "release":
                self.bench.shut_down(slot)
            case "run" if choices.end == "snooze":
                self.bench.snooze(slot)
            case "run":
                self.bench.end(slot, succeeded=choices.end == "succeed")
            case "commit":
                self.run(self.commit(slot, choices.confirmed))
            case "consequences":
                self.run(self.bench.complete(slot))
            case _:
                self.run(self.bench.answer(slot))

    async def deliver(self, slot: Slot, expire: bool) -> None:
        """With `expire`, leases run out first: then the other worker is a zombie, or a crash is noticed."""
        if expire:
            await self.bench.expire_leases()
        await self.bench.deliver(slot)

    async def commit(self, slot: Slot, confirmed: bool) -> None:
        event = slot.stands
        if await self.bench.commit(slot):
            self.recorded.append(event)
            if not confirmed and slot.step == "consequences":
                slot.step = "got"

    # Each at most once, and seldom: a cancel or a deadline ends most runs that it gets into.
    @rule(w=WORKERS, what=st.sampled_from(["crash", "crash", "crash", "crash", "duplicate", "cancel", "deadline"]))
    def trouble(self, w: int, what: str) -> None:
        if what == "crash":
            self.bench.slots[w].forget()
        elif what not in self.troubles:
            self.troubles.add(what)
            self.run(self.happen(what))

    async def happen(self, what: str) -> None:
        match what:
            case "duplicate":
                await self.bench.submit_again()
            case "cancel":
                await self.bench.client.handle(POOL, self.bench.task).cancel()
            case _:
                self.bench.late = True

    @invariant()
    def the_log_keeps_the_rules(self) -> None:
        """An outcome is final and the one that was confirmed; every step is in the table, of the right attempt."""
        events = self.run(self.bench.read()).events
        ends = [event for event in events if event.state in TERMINAL]
        assert not any(event.state in TERMINAL for event in events[:-1])
        confirmed = [event for event in self.recorded if event.state in TERMINAL]
        assert [(e.state, e.attempt, e.worker) for e in confirmed] in (
            [],
            [(e.state, e.attempt, e.worker) for e in ends],
        )
        for before, after in pairwise((FRESH, *events)):
            assert task_may(before.state, after.state), (before.state, after.state)
            # The next attempt's message may also find that the deadline has passed; a cancel names the attempt before.
            is_next = before.state == TaskState.BACKOFF and after.state in (TaskState.RUNNING, TaskState.EXPIRED)
            assert after.attempt == before.attempt + is_next
            assert after.rank >= before.rank

    def teardown(self) -> None:
        self.run(self.settle())
        self.run(self.bench.remove())

    async def settle(self) -> None:
        """All workers are dead; a new one takes what is there until nothing is left."""
        slot = Slot("w2")
        for dead in self.bench.slots:
            dead.forget()

        async def worked_off() -> bool:
            await self.bench.expire_leases()
            while await self.bench.deliver(slot):
                await self.bench.claim(slot)
                if slot.step == "run":
                    self.bench.end(slot, succeeded=True)
                    assert await self.bench.commit(slot)
                await self.bench.complete(slot)
                await self.bench.answer(slot)
            # The log too: between its schedule and its queue, a due task is in neither.
            ended = (await self.bench.read()).terminal
            return ended and await self.left("queue") == 0 and await self.left("delayed") == 0

        await eventually(worked_off, 30, "the task ends, and nothing of it is left")
        failed = (await self.bench.read()).state == TaskState.FAILED
        assert await self.left("dead") == failed

    async def left(self, where: str) -> int:
        """Messages of this task in the queue, among the delays, among the dead letters."""
        ns = self.bench.client.namespace
        stream, subject = {
            "queue": (subjects.pool_stream(ns, POOL), subjects.tasks_all(ns, POOL)),
            "delayed": (subjects.STREAM_DELAYED, subjects.later(ns, POOL, self.bench.task)),
            "dead": (subjects.STREAM_DEAD, subjects.dead(ns, POOL, self.bench.task)),
        }[where]
        info: Any = await self.bench.journal.transport.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
        return sum((info["state"].get("subjects") or {}).values())


def test_crashes_zombies_and_cancels_record_one_outcome_and_lose_nothing(nats_server: NatsServer) -> None:
    with asyncio.Runner() as runner:
        transport = runner.run(Transport.connect(nats_server.url, "machine", timeout=30))
        run_state_machine_as_test(
            lambda: ProtocolMachine(nats_server.url, runner, transport),  # type: ignore[arg-type]  # any factory works
            settings=settings(
                max_examples=60,
                stateful_step_count=30,
                # Not shrunk: on the real server that took more than twenty minutes.
                phases=[Phase.explicit, Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(transport.close())
