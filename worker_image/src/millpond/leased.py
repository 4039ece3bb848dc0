"""A worker's slot that a client holds: its grant, its renewals, its calls, its end. The client's side of `leases`.

Owns one lease from the submission of its message to its end. The grant is learnt from the task's feed, as results are;
calls go to the worker by request and answer, each with the grant's token. It survives a lost connection (a call is
asked for again under its number and runs once) and a worker that is lost while nobody has been told of its grant (the
next grant counts). It must not go on with a lease that may be somebody else's: when it has not been confirmed for its
TTL, it counts as lost, and it is withdrawn.
"""

import asyncio
import contextlib
import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from millpond_api import subjects
from millpond_api.events import TaskEvent, utc_now
from millpond_api.leases import (
    CALL,
    CHECK_IN,
    DROP,
    LEASE_HANDLER,
    RENEW,
    RESEND,
    STALE,
    LeaseAnswer,
    LeaseAsk,
)
from millpond_api.lifecycle import WorkerState

from millpond import transport as wire
from millpond.asking import Question, ask_worker
from millpond.errors import (
    CallFailed,
    CallRefused,
    CallTimeout,
    LeaseLost,
    MillpondError,
    StaleLease,
    WorkerUnreachable,
)
from millpond.handle import BACKSTOP
from millpond.leasing import RENEWALS, Granted, Over, read_step
from millpond.packing import pack_arguments
from millpond.pausing import happens
from millpond.spans import Span, read_limit
from millpond.submission import Submission, make_submission
from millpond.tracing import read_trace
from millpond.transport import Message

if TYPE_CHECKING:
    from millpond.client import Client

GREETING = 2.0
"""Seconds that a worker has to answer after its grant, before the log is asked whether it still has the lease."""
AGAIN = 0.25
"""Seconds between tries to reach a worker that nobody answers for."""
LEAVING = 5.0
"""Seconds for giving a lease back, or withdrawing a wait: the worker ends it by itself after its TTL."""


class LeasedWorker:
    """A slot of a worker that this client holds, within its `async with client.checkout(…)` block."""

    def __init__(self, client: "Client", pool: str, lease: str, owner: str) -> None:
        self._client, self.pool, self.id, self.owner = client, pool, lease, owner
        self._handle = client.handle(pool, lease)
        self._granted: Granted | None = None
        self.place = 0
        """Where it waited: the sequence of its message in the pool's queue. Who has the smaller one came earlier."""
        self._taken = False
        self._over = ""
        self._news = asyncio.Event()
        self._ttl = 0.0
        self._confirmed = 0.0
        self._numbers = itertools.count(1)
        self._answered: set[int] = set()
        self._seen = 0
        self._scopes: set[asyncio.Timeout] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._withdrawal: asyncio.Task[None] | None = None
        self.draining = False
        """Whether the worker wants to stop: it waits until this lease is checked in, for its grace period at most."""

    def __repr__(self) -> str:
        return f"LeasedWorker(pool={self.pool!r}, worker={self.worker!r}, id={self.id!r}, token={self.token})"

    @property
    def worker(self) -> str:
        """The worker's name."""
        return self._granted.worker if self._granted else ""

    @property
    def token(self) -> int:
        """It grows with every grant of the pool: a fence for what the handlers write elsewhere."""
        return self._granted.token if self._granted else 0

    @property
    def lost(self) -> str:
        """Why the lease is over, empty while it is held."""
        return self._over

    async def call(self, handler: str, /, *args: Any, timeout: Span | None = None, **kwargs: Any) -> Any:
        """What the worker's handler returns. Calls of one lease run one at a time, in the order of these calls.

        CallFailed carries the handler's exception; CallTimeout comes after `timeout` seconds, and the worker is asked
        to stop the call; LeaseLost and StaleLease say that the lease is over; CallRefused that this call cannot run.
        """
        patience = read_limit(timeout, "timeout")
        packed = pack_arguments(args, kwargs, self._client.habits)
        submission = make_submission(self.id, handler, packed, {"trace": read_trace()}, utc_now())
        number = next(self._numbers)
        try:
            async with asyncio.timeout(patience) as scope:
                self._scopes.add(scope)
                answer = await self._call(number, submission)
        except TimeoutError as error:
            if self._over:
                raise LeaseLost(self._sentence()) from None
            self._spawn(self._drop(number))
            raise CallTimeout(
                f"worker {self.worker} has not answered {handler} within {timeout} s; it was asked to stop it"
            ) from error
        except asyncio.CancelledError:
            self._spawn(self._drop(number))
            raise
        finally:
            self._scopes.discard(scope)
            self._note_answered(number)
        if answer.error:
            raise CallFailed(handler, answer.error.type, answer.error.message, answer.error.traceback)
        return await self._handle.open_parcel(answer.parcel) if answer.parcel else None

    # ---- obtaining it

    async def obtain(self, task_class: str) -> None:
        """Wait for a grant whose worker answers."""
        packed = pack_arguments((), None, self._client.habits, "json")
        submission = make_submission(self.id, LEASE_HANDLER, packed, {"priority": task_class}, utc_now())
        envelope = submission.envelope.model_copy(update={"owner": self.owner})
        self.place = await self._client.store(self.pool, replace(submission, envelope=envelope))
        while True:
            self._news.clear()
            if self._over:
                raise LeaseLost(self._sentence())
            if self._granted is None:
                if not await happens(self._news, random.uniform(*BACKSTOP)):
                    await self._look()
            elif await self._greet(self._granted):
                return
            elif not await happens(self._news, AGAIN):
                await self._look()

    async def _greet(self, granted: Granted) -> bool:
        """Whether the worker knows that we hold it."""
        sent = self._now()
        answer = await self._ask(RENEW, GREETING)
        if answer is None or not answer.ok or granted != self._granted:
            return False
        self._ttl, self._taken, self._confirmed = answer.ttl, True, sent
        self.draining = answer.state == WorkerState.DRAINING
        self._spawn(self._keep())
        return True

    def on_feed(self, message: Message) -> None:
        """A step of the lease's log."""
        # What cannot be read is no event of ours; the backstop reads the log.
        with contextlib.suppress(ValueError, KeyError):
            event = TaskEvent.model_validate_json(message.body)
            self._hear(event.model_copy(update={"sequence": int(message.headers[subjects.HEADER_SEQUENCE])}))

    def _hear(self, event: TaskEvent) -> None:
        match read_step(self._granted, event, taken=self._taken):
            case Granted() as granted:
                self._granted = granted
            case Over(reason):
                self._lose(reason)
        self._news.set()

    async def _look(self) -> None:
        """Read what may have been pushed while nobody heard it."""
        with contextlib.suppress(MillpondError, wire.TransportError):
            if last := await self._handle.last():
                self._hear(last)

    # ---- keeping it

    async def _keep(self) -> None:
        """Renew until it is over; what nobody has confirmed for the TTL is lost."""
        while not self._over:
            await asyncio.sleep(self._ttl / RENEWALS)
            while not self._over:
                sent = self._now()
                answer = await self._ask(RENEW, self._ttl / RENEWALS)
                if self._hear_answer(answer, sent):
                    break
                await asyncio.sleep(min(AGAIN, self._ttl / 10))

    def _hear_answer(self, answer: LeaseAnswer | None, sent: float) -> bool:
        """Whether it answered. The lease is confirmed from when it was `sent`: we never believe in it for longer."""
        if answer is not None and answer.code == STALE:
            self._lose(answer.message)
        elif answer is not None:
            self._confirmed = max(self._confirmed, sent)
            self.draining = answer.state == WorkerState.DRAINING
        elif self._now() - self._confirmed > self._ttl:
            self._lose(f"worker {self.worker} has not answered for {self._ttl:g} s")
        return answer is not None

    def _lose(self, reason: str) -> None:
        if self._over:
            return
        self._over = reason
        self._news.set()
        for scope in self._scopes:
            # One whose own time has just come ends by itself, and cannot be told again.
            if not scope.expired():
                scope.reschedule(self._now())
        if self._taken:
            # Another worker may hold it for us by now, or will: nobody may serve an owner who has given up.
            self._withdrawal = asyncio.create_task(self.withdraw("the client lost it"))

    def _sentence(self) -> str:
        return f"lease {self.id} of pool {self.pool} is over: {self._over}. Check out again; its state is gone"

    # ---- calls

    async def _call(self, number: int, submission: Submission) -> LeaseAnswer:
        """Ask until there is an answer; asked again, it runs once."""
        again = False
        while True:
            self._client.check_open()
            if not self._over and self._now() - self._confirmed > self._ttl:
                self._lose(f"worker {self.worker} has not answered for {self._ttl:g} s")
            if self._over:
                raise LeaseLost(self._sentence())
            sent = self._now()
            try:
                answer = await self._request(number, submission, again=again)
            except wire.Unconfirmed:
                again = True
                continue
            except wire.StreamMissing:
                await asyncio.sleep(AGAIN)
                continue
            if answer.code == RESEND:
                again = False
            elif answer.code == STALE:
                self._lose(answer.message)
                raise StaleLease(answer.message)
            elif not answer.ok:
                raise CallRefused(answer.message)
            else:
                self._hear_answer(answer, sent)
                return answer

    async def _request(self, number: int, submission: Submission, *, again: bool) -> LeaseAnswer:
        ask = self._make_ask(number).model_copy(update={"again": again})
        headers = {subjects.HEADER_LEASE: ask.encode().decode(), **submission.headers}
        subject = subjects.rpc(self._client.namespace, self.pool, self.worker, CALL)
        body = b"" if again else submission.body
        message = await self._client.transport.collect(subject, body, headers, None, max(self._ttl, GREETING))
        if message.status == "503":
            raise wire.StreamMissing(f"nobody answers on {subject}")
        return LeaseAnswer.decode(message.body)

    async def _drop(self, number: int) -> None:
        """Nobody waits for this call any more."""
        await self._ask(DROP, GREETING, number)

    def _note_answered(self, number: int) -> None:
        """Nobody will ask for this call again; nor for those before it, once they have all been answered."""
        self._answered.add(number)
        while self._seen + 1 in self._answered:
            self._seen += 1
            self._answered.discard(self._seen)

    # ---- giving it back

    async def leave(self) -> None:
        """Check in; what the worker does not hear is withdrawn in the log."""
        if self._withdrawal:
            await self._withdrawal
        if self._over:
            return
        self._over = "it was checked in"
        answer = await self._ask(CHECK_IN, LEAVING / 2)
        if answer is None:
            await self.withdraw("it was checked in, and its worker did not answer")

    async def withdraw(self, reason: str) -> None:
        """End it in the log, then take its message out of the queue: it would count as lag, and wake the pool."""
        with contextlib.suppress(MillpondError, wire.TransportError):
            await self._handle.cancel(reason)
            if self.place:
                stream = subjects.pool_stream(self._client.namespace, self.pool)
                await self._client.transport.delete_message(stream, self.place)

    def close(self) -> None:
        """End what still goes on for it."""
        for task in list(self._work):
            task.cancel()

    # ---- small things

    async def _ask(self, verb: str, timeout: float, number: int = 0) -> LeaseAnswer | None:
        """The worker's answer; None when there is none."""
        address = subjects.Address(self._client.namespace, self.pool, self.worker)
        with contextlib.suppress(WorkerUnreachable):
            return await ask_worker(
                self._client.transport, address, Question(verb, self._make_ask(number), LeaseAnswer, timeout)
            )
        return None

    def _make_ask(self, number: int) -> LeaseAsk:
        return LeaseAsk(lease=self.id, token=self.token, call=number, seen=self._seen)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._work.add(task)
        task.add_done_callback(self._work.discard)
