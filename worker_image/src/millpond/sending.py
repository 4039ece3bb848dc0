"""Stores submissions: one publish each, or up to a thousand as one atomic batch (protocol, step 1: that is the commit).

Owns what happens between a checked submission and its confirmation: trying again, and what a refusal means for the
submitter. It must not decide how a task goes on: that is the workers' log. It survives a lost answer: a submission is
sent again under the same id, the server drops the copy, and what its window no longer catches the claim does.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from millpond_api import subjects
from millpond_api.events import TaskEvent, utc_now
from millpond_api.fairness import META_LANES, LaneChoices, read_counts
from millpond_api.lifecycle import TaskState

from millpond import transport as wire
from millpond.errors import BrokerRefused, NotConnected, PoolNotFound, PriorityNotFound, QueueFull
from millpond.submission import Submission
from millpond.transport import Outgoing, Publish, Transport

T = TypeVar("T")

SUBMIT_TIMEOUT = 30.0
"""Seconds that a submission is tried again while the broker does not answer: longer than a restart of the server, well
inside the 120 s in which the server drops copies."""
BATCH_TIMEOUT = 15.0
"""Seconds for the answer to a batch: 1,000 tasks take some 0.1 s, 16 MiB over a slow line a few."""


class Sender:
    """Submissions of one client. `check_open` raises when the client has been closed."""

    def __init__(self, transport: Transport, namespace: str, check_open: Callable[[], None]) -> None:
        self._transport, self._namespace, self._check_open = transport, namespace, check_open
        self._known: dict[tuple[str, str], int] = {}
        """The lanes of the classes that we have looked at."""
        self._choices = LaneChoices()

    async def send(self, pool: str, submission: Submission) -> int:
        """Store one task; when this returns, it is stored: under this sequence of the queue, or of the schedules."""
        submission = await self._into_lane(pool, submission)
        store = self._schedule if submission.at else self._publish
        with self._refusals(pool, f"task {submission.envelope.id}"):
            return await self._until_confirmed(f"task {submission.envelope.id}", lambda: store(pool, submission))

    async def send_batch(self, pool: str, batch: Sequence[Submission]) -> None:
        """Store all of them or none, in this order; together they are within `submission.make_batches`' bounds."""
        what = f"a batch of {len(batch)} tasks"
        batch = [await self._into_lane(pool, submission) for submission in batch]
        messages = [self._outgoing(pool, submission) for submission in batch]
        with self._refusals(pool, what):
            try:
                await self._until_confirmed(what, lambda: self._transport.publish_batch(messages, BATCH_TIMEOUT))
            except wire.Duplicate:
                # Some ids are known to the server: an earlier try was stored and its answer lost (then all of them
                # are), or the caller repeats himself. One by one the server drops the copies and takes the rest.
                await asyncio.gather(*(self.send(pool, submission) for submission in batch))
                return
            if batch[0].at:
                await asyncio.gather(*(self._until_noted(pool, submission) for submission in batch))

    async def check_class(self, pool: str, task_class: str) -> None:
        """The pool has a consumer for this class (asked once per class): the stream alone would store any class."""
        if (pool, task_class) in self._known:
            return
        name = f"CONSUMER.INFO.{subjects.pool_stream(self._namespace, pool)}.{subjects.consumer(task_class)}"

        async def look() -> None:
            info: Any = await self._transport.api(name)
            lanes = (info["config"].get("metadata") or {}).get(META_LANES, "0")
            self._known[pool, task_class] = int(lanes)

        try:
            await self._until_confirmed(f"that pool {pool} exists", look)
        except wire.StreamMissing as error:
            raise self._no_pool(pool) from error
        except wire.Refused as error:
            raise PriorityNotFound(
                f"pool {pool} has no class {task_class!r} ({error}): use one of its spec.queue.classes as priority"
            ) from error

    async def _into_lane(self, pool: str, submission: Submission) -> Submission:
        """The same in a lane by its fairness key; as it is when it has none, one already, or the class has no lanes."""
        envelope = submission.envelope
        lanes = self._known.get((pool, envelope.task_class), 0)
        if not envelope.fair or envelope.lane or not lanes:
            return submission
        clock = asyncio.get_running_loop().time
        if self._choices.needs_look(pool, clock()):
            self._choices.saw(pool, await self._read_lanes(pool), clock())
        lane = self._choices.choose(pool, envelope.task_class, envelope.fair, lanes)
        return replace(submission, envelope=envelope.model_copy(update={"lane": lane}))

    async def _read_lanes(self, pool: str) -> dict[tuple[str, str], int]:
        ask = {"subjects_filter": subjects.tasks_all(self._namespace, pool)}
        try:
            info = await self._transport.api(f"STREAM.INFO.{subjects.pool_stream(self._namespace, pool)}", ask)
        except wire.TransportError:
            return {}  # a choice without a look is less good; what stands in the way, the submission itself will say
        return read_counts(info)

    @contextlib.contextmanager
    def _refusals(self, pool: str, what: str) -> Iterator[None]:
        """Turns what the broker refuses into the submitter's errors."""
        try:
            yield
        except wire.QueueFull as error:
            raise QueueFull(
                f"the queue of pool {pool} is full and takes no {what.removeprefix('a ')}: wait, give it workers, "
                "or raise spec.queue.maxDepth"
            ) from error
        except wire.StreamMissing as error:
            self._known.clear()
            raise self._no_pool(pool) from error
        except wire.TransportError as error:
            raise BrokerRefused(f"NATS refused {what}: {error}") from error

    async def _until_confirmed(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt` until the broker answers; NotConnected when it has not within SUBMIT_TIMEOUT."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + SUBMIT_TIMEOUT
        while True:
            self._check_open()
            try:
                return await attempt()
            except wire.Unconfirmed as error:
                if clock() > give_up:
                    raise NotConnected(
                        f"NATS has not confirmed {what} within {SUBMIT_TIMEOUT:g} s ({error}): it may or may not be "
                        "stored; check the server, then submit it again under the same task_id"
                    ) from error
            # A server that is just starting answers at once with an error: do not spin on it.
            await asyncio.sleep(0.25)

    def _outgoing(self, pool: str, submission: Submission) -> Outgoing:
        """The message that stores it: a task for now in the queue, one for later as a schedule."""
        envelope, at = submission.envelope, submission.at
        if at is None:
            subject = subjects.tasks(self._namespace, pool, envelope.task_class, envelope.lane)
            return Outgoing(subject, submission.body, submission.headers, envelope.id)
        target = subjects.due(self._namespace, pool, envelope.task_class, envelope.lane)
        where = (self._namespace, pool, envelope.id)
        return wire.make_schedule(
            Outgoing(subjects.later(*where), submission.body, submission.headers, subjects.message_id(*where)),
            target,
            at,
        )

    async def _publish(self, pool: str, submission: Submission) -> int:
        return await self._transport.store(self._outgoing(pool, submission))

    async def _schedule(self, pool: str, submission: Submission) -> int:
        """Store the schedule (that is the commit), then say so in the log."""
        sequence = await self._transport.store(self._outgoing(pool, submission))
        await self._say_scheduled(pool, submission)
        return sequence

    async def _until_noted(self, pool: str, submission: Submission) -> None:
        what = f"the schedule of task {submission.envelope.id}"
        await self._until_confirmed(what, lambda: self._say_scheduled(pool, submission))

    async def _say_scheduled(self, pool: str, submission: Submission) -> None:
        """The schedule is stored: note it in the log, for whoever looks at it."""
        envelope = submission.envelope
        event = TaskEvent(state=TaskState.SCHEDULED, at=utc_now(), handler=envelope.handler, next_at=submission.at)
        log = subjects.task_events(self._namespace, pool, envelope.id)
        # Fenced: the task has a log already (a second submission, or it was quick). That log is right.
        with contextlib.suppress(wire.Fenced):
            await self._transport.publish_stored(log, event.encode(), options=Publish(expected=0))

    def _no_pool(self, pool: str) -> PoolNotFound:
        return PoolNotFound(
            f"namespace {self._namespace} has no pool {pool}: create the WorkerPool, or check both names "
            "(kubectl get workerpools)"
        )
