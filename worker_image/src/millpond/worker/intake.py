"""From arrived messages to running attempts: the slots, and what is given back.

Owns which messages are ours. What arrives is put under lease and started at once; without a free slot, and when
draining, it goes straight back, because another worker may have a slot for it. It survives duplicates: the same message
again is handed to the attempt that runs it, a copy of it waits until the first is through.
"""

import asyncio
from collections.abc import Callable, Coroutine

import structlog
from millpond_api.envelope import Envelope, MalformedTask
from millpond_api.events import NOT_RUNNING
from millpond_api.messages import QueryAnswer, QueryAsk

from millpond.worker.attempt import Attempt
from millpond.worker.delivery import NAK, Delivery, nak_after
from millpond.worker.desk import is_lease
from millpond.worker.malformed import bury_malformed, read_envelope
from millpond.worker.shop import Shop

COPY_DELAY = 1.0
"""Seconds until a copy of a task that runs here is looked at again."""


class Intake:
    """The slots of one worker, in the main loop. `changed` is called whenever a slot is taken or freed."""

    def __init__(self, shop: Shop, changed: Callable[[], None]) -> None:
        self._shop, self._changed = shop, changed
        self._active: dict[str, Attempt] = {}
        self._next: dict[str, tuple[Envelope, Delivery]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self.draining = False
        self.leased = 0
        """Slots that clients have checked out."""
        self._log = structlog.get_logger("millpond.worker")

    @property
    def busy(self) -> int:
        """Attempts in slots."""
        return len(self._active)

    @property
    def idle(self) -> bool:
        return not self._active and not self._tasks

    @property
    def free(self) -> int:
        return 0 if self.draining else max(0, self._shop.settings.concurrency - len(self._active))

    def take(self, delivery: Delivery) -> None:
        """A message has arrived."""
        if self.draining:
            self._give_back(delivery, NAK)
            return
        self._shop.board.leases[delivery.reply] = None
        try:
            envelope = read_envelope(delivery.message)
        except MalformedTask as reason:
            self._log.warning("a message is not a task; it becomes a dead letter", why=str(reason))
            self._spawn(self._bury(delivery, reason))
            return
        if self._is_again(envelope, delivery):
            return
        if self.free:
            self._begin(envelope, delivery)
        else:
            self._give_back(delivery, NAK)

    def cancel(self, task_id: str, *, hard: bool = False) -> bool:
        """Whether the task runs here; it is asked to stop, and made to if it does not (`hard`)."""
        attempt = self._active.get(task_id)
        if attempt:
            attempt.cancel(hard=hard)
        return attempt is not None

    async def query(self, ask: QueryAsk) -> QueryAnswer:
        """What the task's handler answers."""
        attempt = self._active.get(ask.task)
        if attempt is None:
            return QueryAnswer(ok=False, code=NOT_RUNNING, message=f"task {ask.task[:128]!r} does not run here")
        return await attempt.query(ask)

    def drain(self) -> None:
        """Take nothing new; give back what waits for its own last attempt to end."""
        self.draining = True
        held = [delivery for _, delivery in self._next.values()]
        self._next.clear()
        for delivery in held:
            self._give_back(delivery, NAK)

    def release(self) -> None:
        """Stop what runs and give it back."""
        for attempt in list(self._active.values()):
            attempt.release()

    async def settle(self) -> None:
        """Until nothing runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _is_again(self, envelope: Envelope, delivery: Delivery) -> bool:
        """Whether we run this task already; then the delivery is dealt with."""
        attempt = self._active.get(envelope.id)
        if attempt is None:
            return False
        if attempt.delivery.sequence == delivery.sequence:
            attempt.adopt(delivery)
        elif attempt.envelope.rank < envelope.rank and envelope.id not in self._next:
            # A short backoff or snooze: the next message is here before the last one has acked.
            self._next[envelope.id] = (envelope, delivery)
        else:
            # A copy (the task was submitted twice): once the first is through, the log says what this one is worth.
            self._give_back(delivery, nak_after(COPY_DELAY))
        return True

    def _give_back(self, delivery: Delivery, word: bytes) -> None:
        self._shop.board.leases.pop(delivery.reply, None)
        self._spawn(self._shop.journal.answer(delivery.reply, word))

    def _begin(self, envelope: Envelope, delivery: Delivery) -> None:
        attempt = Attempt(self._shop, envelope, delivery)
        self._active[envelope.id] = attempt
        self.leased += is_lease(envelope)
        self._spawn(self._run(attempt))
        self._changed()

    async def _run(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        # Ours, not the user's, or it would have been an outcome: one broken attempt must not end the worker. The
        # message is not acked, so it comes again, and the log's count of lost claims ends it at the poison limit.
        except Exception:
            self._log.exception("an attempt broke off", task=attempt.envelope.id)
        finally:
            task = attempt.envelope.id
            del self._active[task]
            self.leased -= is_lease(attempt.envelope)
            if task in self._next:
                self._begin(*self._next.pop(task))
            else:
                self._changed()

    async def _bury(self, delivery: Delivery, reason: MalformedTask) -> None:
        try:
            await bury_malformed(self._shop.journal, self._shop.settings.worker, delivery, reason)
        finally:
            self._shop.board.leases.pop(delivery.reply, None)

    def _spawn(self, work: Coroutine[object, object, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        # A freed slot has been told already; only the end of a drain waits for the last answer.
        if self.draining:
            self._changed()
