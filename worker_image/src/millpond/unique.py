"""Unique tasks: of the submissions with one key, one stands at a time.

Owns the lock of a unique key, one message in MILLPOND_LIMITS that names the task which stands, changed by
compare-and-set alone; client and operator submit through it. It survives a submitter that dies at any moment: a lock
that is not yet confirmed is never waited for; whoever meets it sends its own submission under that lock's task id, so
that the task exists for certain and once. A lock outlives its task by nothing: it counts only while the task's log is
in one of `states`.

The options are those that River (UniqueOpts: by args, by period, by state), Oban (`unique`, `replace`) and Sidekiq
Enterprise (`unique_for`) have shown to be needed; debouncing is replacing what still waits for its time.
"""

import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, get_args

from millpond_api import subjects
from millpond_api.events import TaskEvent, utc_now
from millpond_api.lifecycle import TaskState, read_events, withdrawn
from millpond_api.wire import Wire
from pydantic import Field

from millpond import transport as wire
from millpond.limitstore import LimitStore
from millpond.spans import Span, read_limit
from millpond.submission import Submission, check_key
from millpond.transport import Publish, Transport

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
    period: Span | None = None
    states: Collection[TaskState | str] | None = None
    on_conflict: OnConflict = "ignore"

    def __post_init__(self) -> None:
        """ValueError or TypeError for what would silently be no rule, or another one."""
        if self.on_conflict not in get_args(OnConflict):
            raise ValueError(f"on_conflict={self.on_conflict!r} is none of {', '.join(get_args(OnConflict))}")
        unknown = [state for state in self.states or () if state not in list(TaskState)]
        if unknown:
            raise ValueError(f"states: {unknown[0]!r} is none of {', '.join(TaskState)}")
        read_limit(self.period, "period")

    def counts(self, state: TaskState) -> bool:
        """Whether a task in this state stands in the way."""
        if self.states is not None:
            return state in self.states
        return state in LIVE or (self.period is not None and state == TaskState.SUCCEEDED)

    @property
    def seconds(self) -> float | None:
        return read_limit(self.period, "period")


class Lock(Wire):
    """The task that stands. Not `confirmed`: its submitter had not yet been told that it is stored.

    `object`: the name of its Task object, empty for a task of the SDK.
    """

    task: str = Field(pattern=f"^{subjects.TOKEN}$")
    key: str = ""
    confirmed: bool = False
    object: str = ""

    @property
    def who(self) -> str:
        """The task's name for people."""
        return self.object or self.task


class Standing(NamedTuple):
    """The task that stands after a submission; `state` is what an older one was in, None for one just sent."""

    lock: Lock
    state: TaskState | None = None


class Act(StrEnum):
    """What a submission does about the lock that it met."""

    TAKE = "take"
    FINISH = "finish"
    YIELD = "yield"
    REPLACE = "replace"


def decide_unique(unique: Unique, lock: Lock, mine: str, state: TaskState | None) -> Act:
    """`state` is the standing task's, None when it is nowhere any more, or (not confirmed) not there yet."""
    if lock.task == mine:
        return Act.FINISH
    if state is None:
        return Act.TAKE if lock.confirmed else Act.FINISH
    if not unique.counts(state):
        return Act.TAKE
    return Act.REPLACE if unique.on_conflict != "ignore" and state in WAITING else Act.YIELD


def check_unique(unique: Unique, submission: Submission) -> str:
    """The lock's name; ValueError or TypeError for what cannot be."""
    if not isinstance(unique, Unique):
        raise TypeError(f"unique must be Unique(key=…, period=…), not {unique!r}")
    if unique.on_conflict == "debounce" and submission.at is None:
        raise ValueError('on_conflict="debounce" needs a delay: how long after the last submission the task is to run')
    if unique.key is not None:
        return check_key(unique.key, "unique key")
    return f"{submission.envelope.handler}:{subjects.digest(submission.body.hex())}"


Send = Callable[[Lock], Awaitable[None]]
"""Stores the caller's submission under the task id (and for the Task object) that the lock names."""


class UniqueSubmitter:
    """Submits to one pool under a lock."""

    def __init__(self, transport: Transport, namespace: str, pool: str) -> None:
        self._transport, self._namespace, self._pool = transport, namespace, pool
        self._store = LimitStore(transport, namespace, pool)

    async def submit(self, mine: Lock, unique: Unique, send: Send) -> Standing:
        """The task that stands afterwards: the caller's (`mine` names it), or the one that stood."""
        name, ttl = mine.key, unique.seconds or KEEP
        while True:
            sequence, lock = await self._read(name)
            state = await self._state(lock) if lock else None
            act = Act.TAKE if lock is None else decide_unique(unique, lock, mine.task, state)
            if lock is not None and act is Act.YIELD:
                return Standing(lock, state)
            if lock is not None and act is Act.REPLACE and not await self._withdraw(lock, mine):
                continue
            taken = lock if lock is not None and act is Act.FINISH else mine
            if taken is not lock:
                # Fenced: another submission with this key was quicker; look at what it made of the lock.
                try:
                    sequence = await self._store.swap("unique", name, taken, sequence, ttl)
                except (wire.Fenced, wire.Unconfirmed):
                    continue
            await send(taken)
            confirmed = taken.model_copy(update={"confirmed": True})
            # Not stored: whoever comes next finishes this submission once more, which changes nothing.
            with contextlib.suppress(wire.Fenced, wire.Unconfirmed):
                if not taken.confirmed:
                    await self._store.swap("unique", name, confirmed, sequence, ttl)
            return Standing(taken)

    async def _read(self, name: str) -> tuple[int, Lock | None]:
        found = await self._store.read("unique", name, Lock)
        return found.sequence, found.state

    async def _last(self, task: str) -> TaskEvent | None:
        stored = await self._transport.read_log(subjects.STREAM_EVENTS, self._log(task))
        events = read_events((one.sequence, one.body) for one in stored)
        return events[-1] if events else None

    async def _state(self, lock: Lock) -> TaskState | None:
        """The standing task's state; None when neither a log nor a message of it can be left, or none is there yet."""
        last = await self._last(lock.task)
        if last is not None:
            return TaskState(last.state)
        if not lock.confirmed:
            return None
        info = await self._transport.api(f"STREAM.INFO.{subjects.pool_stream(self._namespace, self._pool)}")
        state = info["state"]
        return TaskState.QUEUED if isinstance(state, dict) and state.get("messages") else None

    async def _withdraw(self, lock: Lock, by: Lock) -> bool:
        """End the standing task if it has not begun; False: it moved, look again."""
        last = await self._last(lock.task)
        if last is not None and TaskState(last.state) not in WAITING:
            return False
        why = "Replaced", f"task {by.who} of the same unique key took its place"
        event = withdrawn(last, why, utc_now())
        if lock.object:
            event = event.model_copy(update={"object": lock.object})
        options = Publish(expected=last.sequence if last else 0)
        try:
            await self._transport.publish_stored(self._log(lock.task), event.encode(), options=options)
        except (wire.Fenced, wire.Unconfirmed):
            return False
        await self._transport.purge_later(subjects.later(self._namespace, self._pool, lock.task))
        return True

    def _log(self, task: str) -> str:
        return subjects.task_events(self._namespace, self._pool, task)
