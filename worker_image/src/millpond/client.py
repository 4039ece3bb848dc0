"""The client: submit tasks to a pool's queue and get handles for them.

Owns submission (protocol, step 1: one stored publish is the commit) and the client's connection. It must not decide how
a task goes on: that is the workers' log. A submission is idempotent by task id: after a lost answer it is sent
again under the same id, the server drops the copy, and what the server's window no longer catches the claim does.
"""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, Unpack

from millpond_api import subjects
from millpond_api.events import TaskEvent, utc_now
from millpond_api.lifecycle import TaskState

from millpond import transport as wire
from millpond.errors import BrokerRefused, NotConnected, PoolNotFound, PriorityNotFound, QueueFull
from millpond.handle import TaskHandle, broker_errors
from millpond.submission import Options, Submission, check_options, class_of, make_body, make_submission
from millpond.transport import Hooks, Publish, Transport

DEFAULT_URL = "nats://127.0.0.1:4222"
SUBMIT_TIMEOUT = 30.0
"""Seconds that a submission is tried again while the broker does not answer: longer than a restart of the server, well
inside the 120 s in which the server drops copies."""
PIPELINE = 512
"""Submissions under way at once in `submit_many`: enough to hide the round trip, few enough for the server's inbox."""


class Client:
    """A connection to the pools of one namespace: `async with Client.connect(url, namespace="…") as client`."""

    def __init__(self, transport: Transport, namespace: str) -> None:
        self.transport = transport
        self.namespace = namespace
        self._waiters: set[asyncio.Event] = set()
        self._known: set[tuple[str, str]] = set()
        self._closed = False

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str | None = None, *, namespace: str | None = None, timeout: float | None = 30.0
    ) -> AsyncIterator[Self]:
        """A connected client; NotConnected after `timeout` seconds without a server (None: try for ever).

        `url` and `namespace` default to MILLPOND_NATS_URL and MILLPOND_NAMESPACE, which the pods of a pool have.
        """
        url = url or os.environ.get("MILLPOND_NATS_URL", DEFAULT_URL)
        namespace = subjects.check_token(namespace or os.environ.get("MILLPOND_NAMESPACE", "default"), "namespace")
        hooks = Hooks()
        with broker_errors():
            transport = await Transport.connect(url, "millpond-client", hooks=hooks, timeout=timeout)
        client = cls(transport, namespace)
        hooks.reconnected = client._wake_all
        try:
            yield client
        finally:
            await client._close()

    async def submit(
        self,
        pool: str,
        handler: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        **options: Unpack[Options],
    ) -> TaskHandle:
        """Put a task into the pool's queue; when this returns, it is stored.

        `options` are those of `submission.Options`: delay, priority, deadline, retry and so on. A second submission of
        a `task_id` is the same task: it does not run twice.
        """
        check_options(options)
        submission = make_submission(task_id or new_id(), handler, make_body(args, kwargs), options, utc_now())
        await self._check_class(pool, submission.envelope.task_class)
        return await self._send(pool, submission)

    async def submit_many(
        self, pool: str, handler: str, many: Iterable[Sequence[Any]], **options: Unpack[Options]
    ) -> list[TaskHandle]:
        """Submit one task for each list of arguments, many under way at once; the handles come in the same order.

        Everything is checked before the first is sent. If the queue fills up, QueueFull says how many got in.
        """
        check_options(options)
        now = utc_now()
        submissions = [make_submission(new_id(), handler, make_body(args, None), options, now) for args in many]
        await self._check_class(pool, class_of(options))
        handles: list[TaskHandle] = []
        for start in range(0, len(submissions), PIPELINE):
            batch = submissions[start : start + PIPELINE]
            sent = await asyncio.gather(*(self._send(pool, one) for one in batch), return_exceptions=True)
            handles += [one for one in sent if isinstance(one, TaskHandle)]
            failed = next((one for one in sent if isinstance(one, BaseException)), None)
            if isinstance(failed, QueueFull):
                raise QueueFull(f"{failed} ({len(handles)} of {len(submissions)} tasks were submitted)") from failed
            if failed:
                raise failed
        return handles

    def handle(self, pool: str, task_id: str) -> TaskHandle:
        """The handle of a task that was submitted before, here or elsewhere."""
        return TaskHandle(self, pool, task_id)

    def check_open(self) -> None:
        """NotConnected when this client has been closed; nothing would ever answer."""
        if self._closed:
            raise NotConnected("this client is closed: use its handles inside the `async with Client.connect(…)` block")

    @contextlib.contextmanager
    def waking(self, event: asyncio.Event) -> Iterator[None]:
        """Within this block, `event` is set after every reconnect: what was pushed meanwhile was not heard."""
        self._waiters.add(event)
        try:
            yield
        finally:
            self._waiters.discard(event)

    def _wake_all(self) -> None:
        for event in self._waiters:
            event.set()

    async def _close(self) -> None:
        self._closed = True
        await self.transport.close()
        self._wake_all()

    async def _send(self, pool: str, submission: Submission) -> TaskHandle:
        """Store the submission under its id, which makes trying again safe."""
        handle = TaskHandle(self, pool, submission.envelope.id)
        send = self._schedule if submission.at else self._publish
        try:
            await self._until_confirmed(f"task {handle.id}", lambda: send(pool, submission))
        except wire.QueueFull as error:
            raise QueueFull(
                f"the queue of pool {pool} is full: wait, give it workers, or raise spec.queue.maxDepth"
            ) from error
        except wire.StreamMissing as error:
            self._known.clear()
            raise self._no_pool(pool) from error
        except wire.TransportError as error:
            raise BrokerRefused(f"NATS refused task {handle.id}: {error}") from error
        return handle

    async def _until_confirmed(self, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Run `attempt` until the broker answers; NotConnected when it has not within SUBMIT_TIMEOUT."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + SUBMIT_TIMEOUT
        while True:
            self.check_open()
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

    async def _publish(self, pool: str, submission: Submission) -> None:
        envelope = submission.envelope
        subject = subjects.tasks(self.namespace, pool, envelope.task_class)
        options = Publish(msg_id=envelope.id)
        await self.transport.publish_stored(subject, submission.body, headers=submission.headers, options=options)

    async def _schedule(self, pool: str, submission: Submission) -> None:
        """Store the schedule (that is the commit), then say so in the log, for whoever looks at it."""
        envelope, at = submission.envelope, submission.at
        assert at is not None
        target = subjects.due(self.namespace, pool, envelope.task_class)
        await self.transport.schedule(
            envelope.id, target, submission.body, headers=submission.headers, at=at, msg_id=envelope.id
        )
        event = TaskEvent(state=TaskState.SCHEDULED, at=utc_now(), handler=envelope.handler, next_at=at)
        log = subjects.task_events(self.namespace, pool, envelope.id)
        # Fenced: the task has a log already (a second submission, or it was quick). That log is right.
        with contextlib.suppress(wire.Fenced):
            await self.transport.publish_stored(log, event.encode(), options=Publish(expected=0))

    async def _check_class(self, pool: str, priority: str) -> None:
        """The pool has a consumer for this class (asked once per class): the stream alone would store any class."""
        if (pool, priority) in self._known:
            return
        name = f"CONSUMER.INFO.{subjects.pool_stream(self.namespace, pool)}.{subjects.consumer(priority)}"

        async def look() -> None:
            await self.transport.api(name)

        try:
            await self._until_confirmed(f"that pool {pool} exists", look)
        except wire.StreamMissing as error:
            raise self._no_pool(pool) from error
        except wire.Refused as error:
            raise PriorityNotFound(
                f"pool {pool} has no class {priority!r} ({error}): use one of its spec.queue.classes as priority"
            ) from error
        self._known.add((pool, priority))

    def _no_pool(self, pool: str) -> PoolNotFound:
        return PoolNotFound(
            f"namespace {self.namespace} has no pool {pool}: create the WorkerPool, or check both names "
            "(kubectl get workerpools)"
        )


def new_id() -> str:
    """A task id that nobody else has."""
    return uuid.uuid4().hex
