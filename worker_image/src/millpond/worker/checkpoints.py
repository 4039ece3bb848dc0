"""The checkpoints of one attempt: written by compare-and-set, so that a stale attempt never overwrites a newer one's.

Owns the task's one message in MILLPOND_CHECKPOINTS (docs/protocol.md). The attempt's claim is its fencing token: what
was written under a smaller claim is an earlier attempt's and may be replaced, what stands under a greater one ends this
attempt's writing for good. Reading takes over: it stores what it found under its own claim, so that an earlier attempt
that may still run somewhere is refused from then on. It survives lost answers: it reads again and decides again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pydantic
import structlog
from millpond_api import subjects
from millpond_api.events import Parcel, utc_now
from millpond_api.messages import CheckpointNote, Position

from millpond.errors import CheckpointRefused
from millpond.transport import Fenced, Publish, Refused, StreamMissing, Transport
from millpond.worker.journal import PASSING, Pause

STREAM_TRIES = 6
"""Times that a missing stream is asked for again, some 3 s: a server that starts knows its streams a moment later."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: one attempt, by its claim (the sequence of its Running event in the task's log)."""

    claim: int
    attempt: int
    worker: str


def is_stale(writer: Writer, stands: CheckpointNote | None) -> bool:
    """Whether a later attempt has written, so that this one may not any more."""
    return stands is not None and stands.claim > writer.claim


def merge(before: Position, now: Position) -> Position:
    """How far signals have been taken, by the attempts up to the last checkpoint and by this one since."""
    floor = max(before.floor, now.floor)
    return Position(floor=floor, taken=tuple(sorted({one for one in (*before.taken, *now.taken) if one > floor})))


class Checkpoints:
    """What stands, and the way to replace it; one request at a time."""

    def __init__(self, transport: Transport, subject: str, writer: Writer) -> None:
        self._transport, self._subject, self._writer = transport, subject, writer
        self._sequence: int | None = None
        self._stands: CheckpointNote | None = None
        self._turn = asyncio.Lock()

    async def position(self) -> Position:
        """How far signals had been taken at the last checkpoint."""
        async with self._turn:
            stands = await self._insist_on_reading()
            return stands.position if stands else Position()

    async def resume(self) -> Parcel | None:
        """The state to go on from, None when there is none; earlier attempts write no more."""

        def take_over(stands: CheckpointNote | None) -> CheckpointNote:
            parcel, position = (stands.parcel, stands.position) if stands else (None, Position())
            return self._note(parcel, position)

        async with self._turn:
            return (await self._replace(take_over)).parcel

    async def write(self, parcel: Parcel, taken: Position) -> Position:
        """Store the state; how far signals have been taken with it."""

        def replace(stands: CheckpointNote | None) -> CheckpointNote:
            return self._note(parcel, merge(stands.position if stands else Position(), taken))

        async with self._turn:
            return (await self._replace(replace)).position

    def _note(self, parcel: Parcel | None, position: Position) -> CheckpointNote:
        me, now = self._writer, utc_now()
        return CheckpointNote(
            claim=me.claim, attempt=me.attempt, worker=me.worker, at=now, parcel=parcel, position=position
        )

    async def _replace(self, make: Callable[[CheckpointNote | None], CheckpointNote]) -> CheckpointNote:
        """Store what `make` makes of what stands, on top of exactly that."""
        pause, missing = Pause(), 0
        while True:
            try:
                stands = await self._read()
                if is_stale(self._writer, stands):
                    assert stands is not None
                    raise CheckpointRefused(
                        f"attempt {stands.attempt} at {stands.worker} goes on from this task's last checkpoint: "
                        "this one was taken for lost and its outcome will not count; stop"
                    )
                note, expected = make(stands), self._sequence
                self._sequence = await self._transport.publish_stored(
                    self._subject, note.encode(), options=Publish(expected=expected)
                )
                self._stands = note
                return note
            except Fenced:
                # Another attempt wrote in between, or an earlier try of ours was stored: what stands will say.
                self._sequence = None
                continue
            except PASSING as error:
                self._sequence, missing = None, missing + isinstance(error, StreamMissing)
                _check_stream(missing)
                structlog.get_logger("millpond.worker").warning("checkpoint not confirmed; reading it", why=str(error))
            except Refused as error:
                raise CheckpointRefused(f"NATS refused the checkpoint: {error}") from None
            await pause.wait()

    async def _insist_on_reading(self) -> CheckpointNote | None:
        pause, missing = Pause(), 0
        while True:
            try:
                return await self._read()
            except PASSING as error:
                missing += isinstance(error, StreamMissing)
                _check_stream(missing)
            await pause.wait()

    async def _read(self) -> CheckpointNote | None:
        """What stands; read once, and again whenever somebody else may have written."""
        if self._sequence is None:
            stored = await self._transport.read_last(subjects.STREAM_CHECKPOINTS, self._subject)
            self._stands = _decode(stored.body) if stored else None
            self._sequence = stored.sequence if stored else 0
        return self._stands


def _decode(body: bytes) -> CheckpointNote | None:
    """What cannot be read (a newer release's, or by hand) is no state to go on from, and is replaced."""
    try:
        return CheckpointNote.decode(body)
    except pydantic.ValidationError as error:
        structlog.get_logger("millpond.worker").warning("a checkpoint cannot be read", why=str(error))
        return None


def _check_stream(missing: int) -> None:
    if missing >= STREAM_TRIES:
        raise CheckpointRefused(
            f"there is no stream {subjects.STREAM_CHECKPOINTS}: the operator is older than this SDK; upgrade it"
        )
