"""The client: submit tasks to a pool's queue and get handles for them.

Owns submission (protocol, step 1: one stored publish is the commit) and the client's connection. It must not decide how
a task goes on: that is the workers' log. A submission is idempotent by task id: after a lost answer it is sent
again under the same id, the server drops the copy, and what the server's window no longer catches the claim does.
"""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Self, TypedDict, Unpack

from millpond_api import subjects
from millpond_api.catalogue import HandlerCard
from millpond_api.events import utc_now

from millpond.access import Access
from millpond.catalogues import Catalogues
from millpond.checkout import Wish, check_out
from millpond.codecs import check_codec, has_codec, missing
from millpond.codecs.zstd import has_zstd
from millpond.dead import DeadLetters
from millpond.errors import MillpondError, NotConnected, QueueFull
from millpond.gathering import IN_FLIGHT, Window, map_results
from millpond.handle import TaskHandle, broker_errors
from millpond.leased import LeasedWorker
from millpond.packing import Habits, pack_arguments
from millpond.sending import Sender
from millpond.submission import Options, Submission, check_options, class_of, make_batches, make_submission
from millpond.tracing import check_trace, read_trace
from millpond.transport import Hooks, Transport
from millpond.unique import Lock, UniqueSubmitter, check_unique
from millpond.waiting import until_room

DEFAULT_URL = "nats://127.0.0.1:4222"
Arguments = tuple[Sequence[Any], Mapping[str, Any] | None]
"""Positional and keyword arguments of one task."""


class ClientHabits(TypedDict, total=False):
    """How a client writes and reads values; each of them optional."""

    codec: str
    """The codec of arguments and results: json (the default), msgpack, cbor, pickle, or one of your own."""
    pickle: bool
    """Agree to pickle, which runs code of whoever wrote it. The pool has to agree too (spec.results.pickle)."""
    compress: bool
    """Send and ask for zstd above 4 KiB. By default, when `millpond[zstd]` is installed."""


def make_habits(codec: str = "json", *, pickle: bool = False, compress: bool | None = None) -> Habits:
    """CodecMissing or CodecRefused when this side cannot do what it is to do."""
    compress = has_zstd() if compress is None else compress
    if not has_codec(codec):
        raise missing(codec)
    if compress and not has_zstd():
        raise missing("zstd")
    check_codec(codec, (), pickle=pickle)
    return Habits(pickle=pickle, codec=codec, zip="zstd" if compress else "")


class Client:
    """A connection to the pools of one namespace: `async with Client.connect(url, namespace="…") as client`."""

    def __init__(self, transport: Transport, namespace: str, habits: Habits | None = None) -> None:
        self.transport = transport
        self.namespace = namespace
        self.habits = habits or make_habits()
        self._waiters: set[asyncio.Event] = set()
        self._sender = Sender(transport, namespace, self.check_open)
        self._catalogues = Catalogues(transport, namespace)
        self._closed = False
        self.lease_classes: dict[str, str] = {}
        """The classes in which leases wait, by pool, as far as they were looked up."""

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        url: str | None = None,
        *,
        namespace: str | None = None,
        timeout: float | None = 30.0,
        access: Access | None = None,
        **habits: Unpack[ClientHabits],
    ) -> AsyncIterator[Self]:
        """A connected client; NotConnected after `timeout` seconds without a server (None: try for ever).

        `url` and `namespace` default to MILLPOND_NATS_URL and MILLPOND_NAMESPACE, which the pods of a pool have;
        `access` (user, token, credentials file, TLS) to MILLPOND_NATS_USER and so on. BrokerRefused when NATS does not
        take it, AccessError when it can't work.
        """
        url = url or os.environ.get("MILLPOND_NATS_URL", DEFAULT_URL)
        namespace = subjects.check_token(namespace or os.environ.get("MILLPOND_NAMESPACE", "default"), "namespace")
        hooks, made = Hooks(), make_habits(**habits)
        with broker_errors():
            transport = await Transport.connect(url, "millpond-client", hooks=hooks, timeout=timeout, access=access)
        client = cls(transport, namespace, made)
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
        submission = self._make(task_id or new_id(), handler, (args, kwargs), options, utc_now())
        await self._check_calls(pool, handler, [(args, kwargs or {})], options)
        await self._sender.check_class(pool, submission.envelope.task_class)

        async def send(one: Submission) -> None:
            await until_room(options.get("wait"), lambda: self._sender.send(pool, one))

        unique = options.get("unique")
        if unique:
            mine = Lock(task=submission.envelope.id, key=check_unique(unique, submission))
            with broker_errors():
                submitter = UniqueSubmitter(self.transport, self.namespace, pool)
                standing = await submitter.submit(mine, unique, lambda lock: send(_under(submission, lock)))
            return TaskHandle(self, pool, standing.lock.task)
        await send(submission)
        return TaskHandle(self, pool, submission.envelope.id)

    async def submit_many(
        self,
        pool: str,
        handler: str,
        many: Iterable[Sequence[Any]],
        *,
        task_ids: Iterable[str] | None = None,
        **options: Unpack[Options],
    ) -> list[TaskHandle]:
        """Submit one task for each list of arguments, all or none of them; the handles come in the same order.

        Everything is checked before the first is sent. Up to 1,000 tasks with 16 MiB of arguments are one atomic batch;
        more go in several, one after the other: when the queue has no room for one, QueueFull says how many tasks
        are in. With `task_ids` (one for each task) it may be repeated: what is there already is not submitted again.
        """
        check_options(options)
        if options.get("unique"):
            raise TypeError("submit_many takes no unique: a batch is stored as a whole. Submit such tasks one by one")
        now, arguments = utc_now(), list(many)
        ids = [new_id() for _ in arguments] if task_ids is None else list(task_ids)
        if len(set(ids)) != len(arguments) or len(ids) != len(arguments):
            raise ValueError(f"{len(ids)} task_ids ({len(set(ids))} different ones) for {len(arguments)} tasks")
        submissions = []
        for number, (task_id, args) in enumerate(zip(ids, arguments, strict=True), 1):
            with naming_the_task(number, len(ids)):
                submissions.append(self._make(task_id, handler, (args, None), options, now))
        await self._check_calls(pool, handler, [(args, {}) for args in arguments], options)
        await self._sender.check_class(pool, class_of(options))
        stored = 0
        for batch in make_batches(submissions):
            try:
                await until_room(options.get("wait"), partial(self._sender.send_batch, pool, batch))
            except QueueFull as error:
                raise QueueFull(f"{error} ({stored} of {len(submissions)} tasks were submitted)") from error
            stored += len(batch)
        return [TaskHandle(self, pool, task_id) for task_id in ids]

    def checkout(self, pool: str, **wish: Unpack[Wish]) -> contextlib.AbstractAsyncContextManager[LeasedWorker]:
        """A slot of one of the pool's workers for this client alone: `async with client.checkout("pool") as worker`.

        Whoever waits stands in the pool's queue, first come first served, and counts as its lag: a pool at zero starts
        a worker. `wish` is `checkout.Wish`: timeout (30 s), task_class, owner. CheckoutTimeout when there was none in
        time; QueueFull when the queue takes no more. docs/leases.md has the rules.
        """
        return check_out(self, pool, new_id(), **wish)

    async def store(self, pool: str, submission: Submission) -> int:
        """Put what was made and checked already into the pool's queue; its sequence there."""
        self.check_open()
        await self._sender.check_class(pool, submission.envelope.task_class)
        return await self._sender.send(pool, submission)

    def map(
        self, pool: str, handler: str, items: Iterable[Any], *, in_flight: int = IN_FLIGHT, **options: Unpack[Options]
    ) -> AsyncIterator[Any]:
        """The results of `handler(item)` for each item, in the order of the items: `async for result in client.map(…)`.

        `items` is read as results are taken: at most `in_flight` tasks are under way or have results that wait. The
        error of a task is raised in its place, and ends the map; tasks under way then go on. While the queue is full
        it waits for what it has under way (QueueFull when that is nothing).
        """
        return map_results(self.window((pool, handler), options, in_flight), items)

    def window(self, call: tuple[str, str], options: Options, in_flight: int) -> Window:
        """What `map` goes by, for callers who read their items themselves."""
        return Window(self, call, check_options(options), in_flight)

    def _make(self, task_id: str, handler: str, arguments: Arguments, options: Options, now: datetime) -> Submission:
        packed = pack_arguments(*arguments, self.habits, options.get("codec"))
        trace = check_trace(options.get("trace") or "") or read_trace()
        return make_submission(task_id, handler, packed, {**options, "trace": trace}, now)

    def handle(self, pool: str, task_id: str) -> TaskHandle:
        """The handle of a task that was submitted before, here or elsewhere."""
        return TaskHandle(self, pool, task_id)

    async def handlers(self, pool: str) -> dict[str, HandlerCard]:
        """What the pool's workers have announced: parameters, version, options by name. Empty: nothing is known."""
        self.check_open()
        return await self._catalogues.cards(pool)

    async def _check_calls(
        self, pool: str, handler: str, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]], options: Options
    ) -> None:
        self.check_open()
        if options.get("check") is not False:
            for number, (args, kwargs) in enumerate(calls, 1):
                with naming_the_task(number, len(calls)):
                    await self._catalogues.check(pool, handler, args, kwargs)

    def dead(self, pool: str = "") -> DeadLetters:
        """The dead letters of a pool, or of all pools of the namespace: to list, redrive and purge."""
        return DeadLetters(self, pool)

    async def check_class(self, pool: str, task_class: str) -> None:
        """PoolNotFound or PriorityNotFound unless the pool's workers take this class."""
        await self._sender.check_class(pool, task_class)

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


def _under(submission: Submission, lock: Lock) -> Submission:
    """The submission as that of the task which the lock names."""
    update = {"id": lock.task, "object": lock.object, "unique": lock.key}
    return replace(submission, envelope=submission.envelope.model_copy(update=update))


@contextlib.contextmanager
def naming_the_task(number: int, of: int) -> Iterator[None]:
    """Says which of several tasks was refused; all of them are checked before the first is sent."""
    try:
        yield
    except MillpondError as error:
        if of == 1:
            raise
        raise type(error)(f"task {number} of {of}: {error}; none of them was submitted") from error


def new_id() -> str:
    """A task id that nobody else has."""
    return uuid.uuid4().hex
