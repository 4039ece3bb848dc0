"""A submitted task as its submitter sees it: wait for the result, look at it, cancel it.

Owns reading a task's log from the outside. It writes one kind of event, `Cancelled`, and only by compare-and-set, so it
can never overwrite an outcome. `result` is pushed: it listens to the feed first and reads the log afterwards, so that
nothing falls between. It survives a lost connection (it reads again after the reconnect) and a lost push (a slow
backstop).
"""

import asyncio
import random
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pydantic
from millpond_api import subjects
from millpond_api.events import CancelAsk, Parcel, RpcAnswer, TaskError, TaskEvent, utc_now
from millpond_api.lifecycle import TERMINAL, TaskState, TaskView, fold_all, read_event, read_events, withdrawn

from millpond import transport as wire
from millpond.asking import Question, ask_worker
from millpond.errors import (
    BrokerRefused,
    NotConnected,
    ResultExpired,
    ResultTimeout,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    WorkerUnreachable,
)
from millpond.objects import read_object
from millpond.packing import Packed, open_result
from millpond.parcels import Parcels
from millpond.pausing import happens
from millpond.progress import Progress, Stream
from millpond.signals import Outbound, send_query, send_signal
from millpond.transport import Message, Publish

if TYPE_CHECKING:
    from millpond.client import Client

T = TypeVar("T")
CancelMode = Literal["cooperative", "hard"]

BACKSTOP = (5.0, 10.0)
"""Seconds between reads that nothing pushed (spread, so that a thousand waiters do not read at once). The push itself
takes about a millisecond; the backstop only finds what a broken route between servers swallowed."""
REREAD = (0.2, 0.5)
"""Seconds before what a task left is read again from a broker that did not answer."""
CANCEL_RPC_TIMEOUT = 2.0
"""Seconds for telling the running worker. It is a courtesy: the worker is fenced by the event anyway."""


@dataclass(frozen=True)
class TaskStatus:
    """A task now. `attempts` counts started attempts without refunded ones; `worker` is who had it last."""

    state: TaskState
    attempts: int = 0
    worker: str = ""
    since: datetime | None = None
    next_at: datetime | None = None
    reason: str = ""
    error: TaskError | None = None

    @property
    def finished(self) -> bool:
        return self.state in TERMINAL


class TaskHandle:
    """One task of a pool. Handles are cheap, hold no connection of their own and may be made again from the id."""

    def __init__(self, client: "Client", pool: str, task_id: str) -> None:
        self.client = client
        self.pool = pool
        self.id = subjects.check_token(task_id, "task id")
        self._log = subjects.task_events(client.namespace, subjects.check_token(pool, "pool"), task_id)
        self.runs_at = ""
        """The worker that answered for it last; empty: look into the log."""

    def __repr__(self) -> str:
        return f"TaskHandle(pool={self.pool!r}, id={self.id!r})"

    async def result(self, timeout: float | None = None) -> Any:
        """What the handler returned; raises TaskFailed, TaskCancelled or TaskExpired when it ended otherwise.

        Waits for the end as long as it takes, or `timeout` seconds and then raises ResultTimeout: the task goes on.
        """
        with self._patience(timeout):
            async with asyncio.timeout(timeout):
                return await self._unwrap(await self._await_end())

    async def wait(self, timeout: float | None = None) -> TaskStatus:
        """How the task ended, once it has; unlike `result` it raises no error of the task's.

        Waits through outages as `result` does: ResultTimeout after `timeout` seconds.
        """
        with self._patience(timeout):
            async with asyncio.timeout(timeout):
                await self._await_end()
                return make_status(fold_all(await self._insist(self._read_events)))

    @contextmanager
    def _patience(self, timeout: float | None) -> Iterator[None]:
        """Says whose time is over. TaskExpired and the like are no TimeoutErrors: this is the caller's time alone."""
        try:
            yield
        except TimeoutError as error:
            raise ResultTimeout(
                f"task {self.id} has not ended within {timeout:g} s: it goes on; call result() again, or cancel()"
            ) from error

    async def _unwrap(self, end: TaskEvent) -> Any:
        """The result of a terminal event (fetched, when it is in the object store), or the error it stands for."""
        if end.state != TaskState.SUCCEEDED or end.parcel is None:
            return unwrap(self.id, end)
        return await self.open_parcel(end.parcel)

    async def open_parcel(self, parcel: Parcel) -> Any:
        """The value in it, fetched when it is in the object store; ResultExpired when it is not there any more."""
        body = await self._fetch(parcel) if parcel.object else b64decode(parcel.data)
        try:
            return open_result(Packed(body, parcel.codec, parcel.zip, parcel.size), self.client.habits)
        except ValueError as error:
            raise BrokerRefused(
                f"the result of task {self.id} cannot be read ({error}): was it written by hand?"
            ) from error

    async def _fetch(self, parcel: Parcel) -> bytes:
        """The stored result."""
        where = (self.client.namespace, self.pool)
        body = await self._insist(lambda: read_object(self.client.transport, where, parcel.object, parcel.stored))
        if body is None:
            until = f" (until {parcel.expires:%Y-%m-%dT%H:%M:%SZ})" if parcel.expires else ""
            raise ResultExpired(
                f"task {self.id} succeeded, but its result of {parcel.size:,} bytes was kept for a limited "
                f"time{until} and is gone: read results sooner, or raise spec.results.ttl of pool {self.pool}"
            )
        return body

    async def _insist(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` finds. A broker that does not answer now is asked again; the caller's timeout bounds it."""
        while True:
            self.client.check_open()
            with broker_errors(), suppress(wire.Unconfirmed):
                return await read()
            await asyncio.sleep(random.uniform(*REREAD))

    async def events(self) -> list[TaskEvent]:
        """The task's transitions, oldest first (the last 32); empty while nobody has claimed it."""
        self.client.check_open()
        with broker_errors():
            return await self._read_events()

    async def _read_events(self) -> list[TaskEvent]:
        log = await self.client.transport.read_log(subjects.STREAM_EVENTS, self._log)
        return read_events((stored.sequence, stored.body) for stored in log)

    async def status(self) -> TaskStatus:
        """The state as the log tells it. An id that was never submitted looks like one that waits: Queued."""
        return make_status(fold_all(await self.events()))

    async def progress(self) -> AsyncIterator[Progress]:
        """How far the task is, whenever there is news: its steps, and what its handler says by `ctx.progress`.

        Begins with how it stands and ends with how it ended: `async for at in handle.progress(): print(at.text)`. Words
        come with heartbeats, so the last of a second is seen.
        """
        self.client.check_open()
        transport = self.client.transport
        stream = Stream(self.id)
        async with AsyncExitStack() as stack:
            for subject, hear in (
                (subjects.feed(self._log), stream.on_feed),
                (subjects.beats(self.client.namespace, self.pool), stream.on_beat),
            ):
                subscription = await transport.subscribe(subject, hear)
                stack.push_async_callback(subscription.close)
            stack.enter_context(self.client.waking(stream.stale))
            async for at in stream.read(self._events_if_any):
                yield at

    async def _events_if_any(self) -> list[TaskEvent]:
        """The log, or nothing while the broker is away: the stream asks again."""
        self.client.check_open()
        with suppress(NotConnected):
            return await self.events()
        return []

    async def signal(self, name: str, payload: Any = None, *, id: str | None = None) -> None:
        """Send the task a message; when this returns, it is stored. The handler reads it by `ctx.signals`, in order.

        Also before the task runs. TaskEnded when it has ended, SignalsFull when it holds 2,000. Two signals with one
        `id` (within two minutes) are one signal.
        """
        self.client.check_open()
        signal = Outbound(name, payload, id) if id else Outbound(name, payload)
        with broker_errors():
            await send_signal(self, signal, self._parcels())

    async def query(self, name: str, *args: Any, timeout: float = 5.0) -> Any:
        """What the running handler answers by `@ctx.query` within `timeout` seconds; it changes nothing of the task.

        NotRunning, UnknownQuery, QueryFailed, QueryTimeout and WorkerUnreachable say why there is no answer.
        """
        self.client.check_open()
        with broker_errors():
            return await send_query(self, name, args, self._parcels(), timeout)

    def _parcels(self) -> Parcels:
        return Parcels(self.client.habits.codec, self.client.habits)

    async def cancel(self, reason: str = "", *, mode: CancelMode = "cooperative") -> bool:
        """Cancel the task unless it has ended; returns whether Cancelled is its outcome.

        The handler of a running task is told and may stop early; whatever it does, its result is not recorded. With
        `hard` it has a second for that, then its process is killed; a thread, which nothing kills, is given up.
        """
        self.client.check_open()
        with broker_errors():
            before = await self._commit_cancel(reason)
            if before and before.state == TaskState.RUNNING and before.worker:
                await self._tell_worker(before.worker, hard=mode == "hard")
            if before is None or before.state not in TERMINAL:
                await self.client.transport.purge_later(subjects.later(self.client.namespace, self.pool, self.id))
        return before is None or before.state not in TERMINAL or before.state == TaskState.CANCELLED

    async def last(self) -> TaskEvent | None:
        """The last event of the log; None while there is none."""
        stored = await self.client.transport.read_last(subjects.STREAM_EVENTS, self._log)
        if stored is None:
            return None
        # One that cannot be read says as little as the log before it does.
        return read_event(stored.sequence, stored.body) or (await self.events())[-1]

    async def _await_end(self) -> TaskEvent:
        """The terminal event, as soon as it is stored."""
        self.client.check_open()
        wake = asyncio.Event()
        pushed: list[TaskEvent] = []

        async def on_feed(message: Message) -> None:
            # What cannot be parsed is no event of ours; the read below says so to the caller.
            with suppress(pydantic.ValidationError):
                event = TaskEvent.model_validate_json(message.body)
                if event.state in TERMINAL:
                    pushed.append(event)
                    wake.set()

        # No flush between: the server handles one connection's commands in order, so it knows the subscription
        # before it answers the read.
        subscription = await self.client.transport.subscribe(subjects.feed(self._log), on_feed)
        try:
            with self.client.waking(wake):
                while True:
                    wake.clear()
                    event = await self._read_end()
                    if event or pushed:
                        return event or pushed[-1]
                    await happens(wake, random.uniform(*BACKSTOP))
                    if pushed:
                        return pushed[-1]
        finally:
            await subscription.close()

    async def _read_end(self) -> TaskEvent | None:
        """The last event if it is an outcome. A broker that does not answer now is asked again by the caller's loop."""
        self.client.check_open()
        with broker_errors(), suppress(wire.Unconfirmed):
            last = await self.last()
            return last if last and last.state in TERMINAL else None
        return None

    async def _commit_cancel(self, reason: str) -> TaskEvent | None:
        """Write Cancelled unless an outcome stands; returns the event before it, or the outcome that stands."""
        while True:
            last = await self.last()
            if last and last.state in TERMINAL:
                return last
            cancelled = withdrawn(last, ("Cancelled", reason), utc_now())
            options = Publish(expected=last.sequence if last else 0)
            # Fenced: the log moved between the read and the write. Read again and decide again.
            with suppress(wire.Fenced):
                await self.client.transport.publish_stored(self._log, cancelled.encode(), options=options)
                return last

    async def _tell_worker(self, worker: str, *, hard: bool) -> None:
        """Ask the worker to stop the handler; a worker that is gone or does not answer changes nothing."""
        question = Question("cancel", CancelAsk(task=self.id, hard=hard), RpcAnswer, CANCEL_RPC_TIMEOUT)
        with suppress(WorkerUnreachable):
            await ask_worker(
                self.client.transport, subjects.Address(self.client.namespace, self.pool, worker), question
            )


def make_status(view: TaskView) -> TaskStatus:
    """The status of a log."""
    last = view.last
    if last is None:
        return TaskStatus(view.state)
    worker = next((event.worker for event in reversed(view.events) if event.worker), "")
    return TaskStatus(view.state, view.attempts, worker, last.at, last.next_at, last.reason, last.error)


def unwrap(task: str, end: TaskEvent) -> Any:
    """The result of a terminal event, or the error it stands for."""
    why = f": {end.message}" if end.message else ""
    if end.state == TaskState.SUCCEEDED:
        return end.result
    if end.state == TaskState.CANCELLED:
        raise TaskCancelled(f"task {task} was cancelled{why}; submit it under another id to run it after all")
    if end.state == TaskState.EXPIRED:
        raise TaskExpired(f"task {task} passed its deadline{why}; submit it again with a later one, or more workers")
    error = end.error or TaskError(type=end.reason or "Failed", message=end.message)
    raise TaskFailed(task, error.type, error.message, error.traceback, end.attempt)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turns what the transport raises into the SDK's errors."""
    try:
        yield
    except wire.Unconfirmed as error:
        raise NotConnected(f"NATS did not answer ({error}): check the URL and that the server runs") from error
    except wire.StreamMissing as error:
        raise BrokerRefused(f"{error}: is the Millpond operator installed beside this NATS server?") from error
    except wire.TransportError as error:
        raise BrokerRefused(f"NATS refused: {error}") from error
