"""One task, two workers and the real protocol code, in single steps so that a crash can fall between any two.

Owns the order of the steps as `worker.attempt` has it, without handlers, threads and leases: a step calls `outcomes`,
`journal` and the client, against a real nats-server. It must not decide anything itself. What a worker forgets in a
crash is a `Slot`; what survives is on the server.
"""

import asyncio
import itertools
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from millpond.client import Client
from millpond.outcomes import (
    Claim,
    Commit,
    Ended,
    Finish,
    Origin,
    decide_claim,
    decide_first_claim,
    decide_outcome,
    make_event,
    make_released,
)
from millpond.transport import Fenced, Transport
from millpond.worker.agenda import Line
from millpond.worker.delivery import ACK, NAK, Delivery
from millpond.worker.journal import Journal
from millpond.worker.malformed import read_envelope
from millpond.worker.pulls import Puller
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.envelope import Envelope
from millpond_api.events import TaskError, TaskEvent, utc_now
from millpond_api.lifecycle import TaskState, TaskView
from millpond_api.retry import RetryPolicy

from tests.support.nats import ensure_pool

POLICY = RetryPolicy(max_attempts=2, initial=0.0)
POISON_LIMIT = 3
POOL = "mill"
_NUMBERS = itertools.count()


@dataclass
class Slot:
    """What a worker remembers. `event` is what it is about to store, or what stands."""

    name: str
    step: str = "idle"
    delivery: Delivery | None = None
    envelope: Envelope | None = None
    claim: int = 0
    event: TaskEvent | None = None

    def forget(self) -> None:
        self.step, self.delivery, self.envelope, self.claim, self.event = "idle", None, None, 0, None

    @property
    def job(self) -> tuple[Envelope, Delivery]:
        assert self.envelope is not None
        assert self.delivery is not None
        return self.envelope, self.delivery

    @property
    def stands(self) -> TaskEvent:
        assert self.event is not None
        return self.event


@dataclass
class Bench:
    """The server's side of one task in a pool of its own."""

    client: Client
    journal: Journal
    pulls: Puller
    slots: tuple[Slot, ...] = field(default_factory=lambda: (Slot("w0"), Slot("w1")))
    arrived: list[Delivery] = field(default_factory=list)
    unanswered: dict[int, Delivery] = field(default_factory=dict)
    """The latest delivery of each message that was not acked."""
    late: bool = False
    """Whether the deadline has passed."""

    @classmethod
    async def create(cls, url: str, transport: Transport) -> "Bench":
        # A lease of an hour: leases end when `expire_leases` says so, not by the clock.
        queue = QueueConfig(f"machine-{next(_NUMBERS)}", POOL, lease=3600.0)
        await ensure_pool(url, queue)
        journal = Journal(transport, queue.namespace, POOL, structlog.get_logger("millpond.test"))
        stream = subjects.pool_stream(queue.namespace, POOL)
        bench = cls(
            Client(transport, queue.namespace),
            journal,
            Puller(transport, stream, asyncio.Event()),
        )
        await bench.pulls.start(bench.arrived.append)
        await bench.client.submit(POOL, "noop", task_id=bench.task, deadline=timedelta(hours=1))
        return bench

    @property
    def task(self) -> str:
        """Its namespace, because the subject of a schedule holds the task id alone."""
        return self.client.namespace

    async def remove(self) -> None:
        await self.pulls.stop()
        await self.journal.transport.api(f"STREAM.DELETE.{subjects.pool_stream(self.client.namespace, POOL)}")

    async def submit_again(self) -> None:
        """The same task once more, after the server's duplicate window: a second message in the queue."""
        envelope = Envelope(id=self.task, handler="noop", enqueued=utc_now(), deadline=utc_now() + timedelta(hours=1))
        headers = {subjects.HEADER_ENVELOPE: envelope.encode().decode()}
        subject = subjects.tasks(self.client.namespace, POOL, "default")
        await self.journal.transport.publish_stored(subject, b"{}", headers=headers)

    async def read(self) -> TaskView:
        return await self.journal.read(self.task)

    async def expire_leases(self) -> None:
        """Every message that was delivered and not acked becomes deliverable, whoever still works on it."""
        for delivery in self.unanswered.values():
            await self.journal.answer(delivery.reply, NAK)

    async def deliver(self, slot: Slot) -> bool:
        """Hand the next message to the slot, a scheduled one too (it takes 250 ms); False when there is none."""
        later = subjects.later(self.client.namespace, POOL, self.task)
        scheduled = await self.journal.transport.read_last(subjects.STREAM_DELAYED, later)
        if not await self._pull(wait=False) and not (scheduled and await self._pull(wait=True)):
            return False
        delivery = self.arrived.pop()
        self.unanswered[delivery.sequence] = delivery
        slot.delivery, slot.envelope, slot.step = delivery, read_envelope(delivery.message), "got"
        return True

    async def _pull(self, *, wait: bool) -> bool:
        pull = await self.pulls.ask(Line("default"), 1, wait=wait)
        assert pull is not None
        await asyncio.wait_for(pull.done.wait(), 60)
        return bool(self.arrived)

    async def claim(self, slot: Slot) -> bool:
        """Step 2: decide from the log (or from its absence) and store that; whether the task is the slot's now."""
        envelope, delivery = slot.job
        origin = Origin(envelope, slot.name)
        now = utc_now() + timedelta(hours=2 if self.late else 0)
        try:
            if envelope.rank == (1, 0) and delivery.count == 1:
                await self._follow(slot, decide_first_claim(origin, now))
            else:
                await self._follow(slot, decide_claim(await self.read(), origin, POISON_LIMIT, now))
        except Fenced:
            await self._follow(slot, decide_claim(await self.read(), origin, POISON_LIMIT, now))
        return slot.step == "run"

    async def _follow(self, slot: Slot, decision: Claim | Commit | Finish) -> None:
        match decision:
            case Finish(event):
                slot.step, slot.event = "consequences", event
            case Commit(expected, event):
                await self.journal.append(self.task, event, expected)
                slot.step, slot.event = "consequences", event
            case Claim(expected):
                running = make_event(Origin(slot.job[0], slot.name), TaskState.RUNNING, utc_now())
                slot.claim = await self.journal.append(self.task, running, expected)
                slot.step = "run"

    def end(self, slot: Slot, *, succeeded: bool) -> None:
        """Step 3: the handler ends."""
        ended = Ended(b"1") if succeeded else Ended(error=TaskError(type="OSError", message="again"))
        slot.event = decide_outcome(ended, Origin(slot.job[0], slot.name), POLICY, 0.0, utc_now())
        slot.step = "commit"

    def snooze(self, slot: Slot) -> None:
        """Step 3: the handler puts its task off."""
        slot.event = decide_outcome(Ended(snooze=0.0), Origin(slot.job[0], slot.name), POLICY, 0.0, utc_now())
        slot.step = "commit"

    def shut_down(self, slot: Slot) -> None:
        """Step 3, cut short: the worker is asked to stop and gives the task back."""
        slot.event = make_released(Origin(slot.job[0], slot.name), utc_now())
        slot.step = "commit"

    async def commit(self, slot: Slot) -> bool:
        """Step 4. False: fenced; everything is dropped and nothing acked."""
        event = slot.stands
        if not await self.journal.commit(self.task, event, slot.claim, b"1" if event.state == "Succeeded" else b""):
            slot.forget()
            return False
        slot.step = "hand back" if event.state == TaskState.QUEUED else "consequences"
        return True

    async def complete(self, slot: Slot) -> None:
        """Step 5."""
        envelope, delivery = slot.job
        await self.journal.complete(envelope, slot.stands, delivery)
        slot.step = "ack"

    async def answer(self, slot: Slot) -> None:
        """Step 6: ack, or hand a released task back."""
        _, delivery = slot.job
        await self.journal.answer(delivery.reply, NAK if slot.step == "hand back" else ACK)
        if slot.step == "ack":
            self.unanswered.pop(delivery.sequence, None)
        slot.forget()
