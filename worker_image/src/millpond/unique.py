"""Unique tasks: of the submissions with one key, one stands at a time.

Owns the lock of a unique key, one message in MILLPOND_LIMITS that names the task which stands, changed by
compare-and-set alone. It survives a submitter that dies at any moment: a lock that is not yet confirmed is never waited
for; whoever meets it sends its own submission under that lock's task id, so that the task exists for certain and once.
A lock outlives its task by nothing: it counts only while the task's log is in one of `states`.

The options are those that River (UniqueOpts: by args, by period, by state), Oban (`unique`, `replace`) and Sidekiq
Enterprise (`unique_for`) have shown to be needed; debouncing is replacing what still waits for its time.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from millpond_api import subjects
from millpond_api.events import TaskEvent, utc_now
from millpond_api.lifecycle import TaskState
from millpond_api.wire import Wire

from millpond import transport as wire
from millpond.handle import TaskHandle
from millpond.limitstore import LimitStore
from millpond.submission import Submission, check_key
from millpond.transport import Publish

if TYPE_CHECKING:
    from millpond.client import Client

KEEP = 7 * 86400.0
"""Seconds that a lock without a period stays: as long as the log that says whether its task has ended."""
LIVE = frozenset({TaskState.SCHEDULED, TaskState.QUEUED, TaskState.RUNNING, TaskState.BACKOFF})
WAITING = frozenset({TaskState.SCHEDULED, TaskState.QUEUED})
OnConflict = Literal["ignore", "replace", "debounce"]


@dataclass(frozen=True)
class Unique:
    """How a submission is unique in its pool.

    `key`: whose lock it is; without one the handler and its arguments. `period` (seconds): the lock ends after it,
    whatever became of the task. `states`: those in which the standing task counts; without a period the live ones, with
    one also Succeeded. `on_conflict`: *ignore* answers with the standing task; *replace* cancels it if it has not begun
    and stands instead; *debounce* is the same with a delay, so that the last of a bunch runs, that long after it.
    """

    key: str | None = None
    period: float | timedelta | None = None
    states: frozenset[TaskState] | None = None
    on_conflict: OnConflict = "ignore"

    def counts(self, state: TaskState) -> bool:
        """Whether a task in this state stands in the way."""
        if self.states is not None:
            return state in self.states
        return state in LIVE or (self.period is not None and state == TaskState.SUCCEEDED)

    @property
    def seconds(self) -> float | None:
        return self.period.total_seconds() if isinstance(self.period, timedelta) else self.period


class Lock(Wire):
    """The task that stands. Not `confirmed`: its submitter had not yet been told that it is stored."""

    task: str
    key: str = ""
    confirmed: bool = False


class Act(StrEnum):
    """What a submission does about the lock that it met."""

    TAKE = "take"
    FINISH = "finish"
    YIELD = "yield"
    REPLACE = "replace"


def decide_unique(unique: Unique, lock: Lock, mine: str, state: TaskState | None) -> Act:
    """`state` is the standing task's, None when it is nowhere any more."""
    if not lock.confirmed or lock.task == mine:
        return Act.FINISH
    if state is None or not unique.counts(state):
        return Act.TAKE
    return Act.REPLACE if unique.on_conflict != "ignore" and state in WAITING else Act.YIELD


def check_unique(unique: Unique, submission: Submission) -> str:
    """The lock's name; ValueError for what cannot be."""
    if unique.on_conflict == "debounce" and submission.at is None:
        raise ValueError('on_conflict="debounce" needs a delay: how long after the last submission the task is to run')
    if unique.seconds is not None and unique.seconds <= 0:
        raise ValueError(f"period must be more than 0 seconds, not {unique.seconds!r}")
    if unique.key is not None:
        return check_key(unique.key, "unique key")
    return f"{submission.envelope.handler}:{subjects.digest(submission.body.hex())}"


Send = Callable[[Submission], Awaitable[None]]


class UniqueSubmitter:
    """Submits to one pool under a lock."""

    def __init__(self, client: "Client", pool: str) -> None:
        self._client, self._pool = client, pool
        self._store = LimitStore(client.transport, client.namespace, pool)

    async def submit(self, submission: Submission, unique: Unique, send: Send) -> TaskHandle:
        """The handle of the task that stands afterwards: this one, or the one that stood."""
        name, mine = check_unique(unique, submission), submission.envelope.id
        ttl = unique.seconds or KEEP
        while True:
            sequence, lock = await self._read(name)
            act = Act.TAKE if lock is None else decide_unique(unique, lock, mine, await self._state(lock))
            if lock is not None and act is Act.YIELD:
                return self._client.handle(self._pool, lock.task)
            if lock is not None and act is Act.REPLACE and not await self._withdraw(lock.task, mine):
                continue
            taken = lock if lock is not None and act is Act.FINISH else Lock(task=mine, key=name)
            if taken is not lock:
                # Fenced: another submission with this key was quicker; look at what it made of the lock.
                try:
                    sequence = await self._store.swap("unique", name, taken, sequence, ttl)
                except (wire.Fenced, wire.Unconfirmed):
                    continue
            await send(_under(submission, taken.task, name))
            confirmed = taken.model_copy(update={"confirmed": True})
            # Not stored: whoever comes next finishes this submission once more, which changes nothing.
            with contextlib.suppress(wire.Fenced, wire.Unconfirmed):
                if not taken.confirmed:
                    await self._store.swap("unique", name, confirmed, sequence, ttl)
            return self._client.handle(self._pool, taken.task)

    async def _read(self, name: str) -> tuple[int, Lock | None]:
        found = await self._store.read("unique", name)
        return (found.sequence, Lock.decode(found.body)) if found else (0, None)

    async def _state(self, lock: Lock) -> TaskState | None:
        """The standing task's state; None when neither a log nor a message of it can be left."""
        if not lock.confirmed:
            return TaskState.QUEUED
        status = await self._client.handle(self._pool, lock.task).status()
        if status.since is not None:
            return status.state
        info = await self._client.transport.api(
            f"STREAM.INFO.{subjects.pool_stream(self._client.namespace, self._pool)}"
        )
        state = info["state"]
        return TaskState.QUEUED if isinstance(state, dict) and state.get("messages") else None

    async def _withdraw(self, task: str, by: str) -> bool:
        """End the standing task if it has not begun; False: it moved, look again."""
        handle = self._client.handle(self._pool, task)
        events = await handle.events()
        last = events[-1] if events else None
        if last is not None and TaskState(last.state) not in WAITING:
            return False
        event = TaskEvent(
            state=TaskState.CANCELLED,
            attempt=last.attempt if last else 1,
            at=utc_now(),
            handler=last.handler if last else "",
            reason="Replaced",
            message=f"task {by} of the same unique key took its place",
        )
        log = subjects.task_events(self._client.namespace, self._pool, task)
        options = Publish(expected=last.sequence if last else 0)
        try:
            await self._client.transport.publish_stored(log, event.encode(), options=options)
        except (wire.Fenced, wire.Unconfirmed):
            return False
        await self._client.transport.purge_later(subjects.later(self._client.namespace, self._pool, task))
        return True


def _under(submission: Submission, task: str, key: str) -> Submission:
    """The submission under the id that the lock names."""
    envelope = submission.envelope.model_copy(update={"id": task, "unique": key})
    return replace(submission, envelope=envelope)
