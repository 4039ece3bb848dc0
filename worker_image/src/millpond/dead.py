"""Dead letters at work: listed, read, put back, thrown away, for one pool or a whole namespace.

Owns the I/O of a redrive (what each step means is decided in `letters`). It must not touch a task whose log says that
it has gone on. It survives a crash between any two steps: commit, publish and removal are each idempotent, and the log
tells the next redrive where to go on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from millpond_api import subjects
from millpond_api.events import LossNote, utc_now
from millpond_api.lifecycle import TaskView, fold_all, read_events

from millpond import transport as wire
from millpond.errors import DeadLetterNotFound, QueueFull
from millpond.handle import broker_errors
from millpond.letters import EVERY, DeadLetter, GoOn, LetterFilter, Over, PutBack, Refused, decide_redrive, parse_letter
from millpond.transport import Publish

if TYPE_CHECKING:
    from millpond.client import Client

TOGETHER = 64
"""Letters worked on at once: enough to hide three round trips each, few enough for a forwarded port."""

T = TypeVar("T")


@dataclass(frozen=True)
class Redriven:
    """What became of a letter. `done`: `redriven`, `over` (the task had gone on; the letter is removed), `refused`."""

    letter: DeadLetter
    done: str
    why: str = ""


class DeadLetters:
    """The dead letters of `pool`, or of every pool of the client's namespace."""

    def __init__(self, client: "Client", pool: str = "") -> None:
        self._client = client
        self._pool = subjects.check_token(pool, "pool") if pool else "*"

    async def list(self, which: LetterFilter = EVERY) -> AsyncIterator[DeadLetter]:
        """The letters that `which` means, oldest first, with arguments; read in pages as you go on."""
        self._client.check_open()
        subject, now = subjects.dead_all(self._client.namespace, self._pool), utc_now()
        with broker_errors():
            async for stored in self._client.transport.read_range(subjects.STREAM_DEAD, subject):
                letter = parse_letter(stored)
                if which.matches(letter, now):
                    yield letter

    async def read(self, task: str) -> DeadLetter:
        """The last letter of a task, by its id or its Task object's name; DeadLetterNotFound when it has none."""
        found = [letter async for letter in self.list(LetterFilter(tasks=(task,)))]
        if not found:
            raise DeadLetterNotFound(
                f"{task} has no dead letter: it was redriven or purged, it died longer ago than letters are kept, or "
                "it has not failed"
            )
        return found[-1]

    async def losses(self, letter: DeadLetter) -> LossNote | None:
        """How the workers ended that a quarantined task took with it; None when the operator has told nothing."""
        subject = subjects.dead_note(self._client.namespace, letter.pool, letter.task)
        with broker_errors():
            stored = await self._client.transport.read_last(subjects.STREAM_DEAD, subject)
        note = LossNote.decode(stored.body) if stored else None
        return note if note and note.attempt == letter.attempt else None

    async def redrive(self, which: LetterFilter = EVERY) -> tuple[Redriven, ...]:
        """Put them back into their pools' queues, each with a full set of attempts and its history.

        QueueFull when a queue takes no more: those already put back stay so; the rest is there to be redriven later.
        """
        return await self._on_each(which, self._redrive)

    async def purge(self, which: LetterFilter = EVERY) -> tuple[DeadLetter, ...]:
        """Throw them away for good; the tasks' logs stay as they are."""
        return await self._on_each(which, self._purge)

    async def _on_each(self, which: LetterFilter, act: Callable[[DeadLetter], Awaitable[T]]) -> tuple[T, ...]:
        """`act` on every letter that is there now; the first error ends it once those under way are through."""
        letters = [letter async for letter in self.list(which)]
        done = []
        for start in range(0, len(letters), TOGETHER):
            chunk = letters[start : start + TOGETHER]
            ended = await asyncio.gather(*(act(letter) for letter in chunk), return_exceptions=True)
            for one in ended:
                if isinstance(one, BaseException):
                    raise one
                done.append(one)
        return tuple(done)

    async def _redrive(self, letter: DeadLetter) -> Redriven:
        with broker_errors():
            match await self._commit(letter):
                case Refused(why):
                    return Redriven(letter, "refused", why)
                case Over():
                    await self._remove(letter)
                    return Redriven(letter, "over", "the task had been put back already")
            await self._publish(letter)
            await self._remove(letter)
        return Redriven(letter, "redriven")

    async def _commit(self, letter: DeadLetter) -> PutBack | GoOn | Over | Refused:
        """Store in the task's log that it is queued again, unless that is there already or cannot be."""
        while True:
            decision = decide_redrive(await self._read_view(letter), letter, utc_now())
            if not isinstance(decision, PutBack):
                return decision
            await self._client.check_class(letter.pool, _class_of(letter))
            # Fenced: the log has moved since it was read. Read again and decide again.
            with suppress(wire.Fenced):
                options = Publish(expected=decision.expected)
                await self._client.transport.publish_stored(self._log(letter), decision.event.encode(), options=options)
                return decision

    async def _publish(self, letter: DeadLetter) -> None:
        assert letter.envelope is not None
        following = letter.envelope.redriven(letter.attempt)
        headers = {
            name: value
            for name, value in letter.stored.headers.items()
            if not name.startswith("Nats-") and name != subjects.HEADER_ERROR
        }
        headers[subjects.HEADER_ENVELOPE] = following.encode().decode()
        subject = subjects.tasks(self._client.namespace, letter.pool, following.task_class, following.lane)
        options = Publish(msg_id=f"{letter.task}.{following.attempt}")
        try:
            await self._client.transport.publish_stored(subject, letter.stored.body, headers=headers, options=options)
        except wire.QueueFull as error:
            raise QueueFull(
                f"the queue of pool {letter.pool} is full: redrive {letter.task} and the rest once it has room"
            ) from error

    async def _purge(self, letter: DeadLetter) -> DeadLetter:
        with broker_errors():
            await self._remove(letter)
            await self._remove_note(letter)
        return letter

    async def _remove(self, letter: DeadLetter) -> None:
        await self._client.transport.delete_message(subjects.STREAM_DEAD, letter.stored.sequence)

    async def _remove_note(self, letter: DeadLetter) -> None:
        subject = subjects.dead_note(self._client.namespace, letter.pool, letter.task)
        stored = await self._client.transport.read_last(subjects.STREAM_DEAD, subject)
        if stored:
            await self._client.transport.delete_message(subjects.STREAM_DEAD, stored.sequence)

    async def _read_view(self, letter: DeadLetter) -> TaskView:
        stored = await self._client.transport.read_log(subjects.STREAM_EVENTS, self._log(letter))
        return fold_all(read_events((one.sequence, one.body) for one in stored))

    def _log(self, letter: DeadLetter) -> str:
        return subjects.task_events(self._client.namespace, letter.pool, letter.task)


def _class_of(letter: DeadLetter) -> str:
    assert letter.envelope is not None
    return letter.envelope.task_class
