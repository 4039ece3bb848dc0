"""Dead letters as data: how one is made and read, which ones a filter means, what a redrive of one has to do. Pure.

Owns the form of a dead letter (the message as it was, with its error, cut to what the server takes) and the decision of
a redrive (protocol.md, "Redrive"): commit `Queued(a + 1)` on the Failed log, publish, remove the letter. The log tells
how far an earlier try got, so that a crash between any two steps is finished by whoever redrives next. It does no I/O:
`dead` and the worker's journal do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

import pydantic
from millpond_api import subjects
from millpond_api.envelope import Envelope, MalformedTask, parse_envelope
from millpond_api.events import TaskError, TaskEvent
from millpond_api.lifecycle import TERMINAL, TaskState, TaskView

from millpond.answers import Stored
from millpond.outcomes import Origin, make_event
from millpond.spans import Span, read_seconds

REDRIVEN = "Redriven"
"""The reason of the event that puts a failed task back."""
MOST_HEADERS = 62 * 1024
"""Bytes of headers in a letter: nats-server stores at most 64 KiB (its error 10097), a message id is among them."""
MOST_ERROR = 20 * 1024
"""Bytes of the error in them: 4 KiB of text and 16 KiB of traceback, unless JSON's escapes make more of those."""


def make_letter(headers: Mapping[str, str], body: bytes, error: TaskError, most: int) -> tuple[dict[str, str], bytes]:
    """Headers and body of a dead letter of at most `most` bytes. What does not fit is left out, and the letter says so.

    The error comes first, then the envelope, then other headers in their order, then as much of the body as there is
    room for. A letter that the server refused would come back to a worker for ever.
    """
    said = fit_error(error, MOST_ERROR)
    kept, room, dropped = {subjects.HEADER_ERROR: said}, MOST_HEADERS - len(said.encode()), 0
    for name in sorted(headers, key=lambda name: name != subjects.HEADER_ENVELOPE):
        size = len(name) + len(headers[name].encode(errors="replace")) + 4
        if size <= room:
            kept[name], room = headers[name], room - size
        else:
            dropped += size
    left = max(0, most - MOST_HEADERS + room - 1024)
    if dropped or len(body) > left:
        cut = max(0, len(body) - left)
        kept[subjects.HEADER_CUT] = (
            f"{dropped:,} bytes of its headers and {cut:,} of its {len(body):,} bytes of payload"
        )
    return kept, body[:left]


def fit_error(error: TaskError, most: int) -> str:
    """The error as JSON of at most `most` bytes: what goes is the traceback from its beginning, then the text's end."""
    error = error.model_copy(update={"type": error.type[:256]})
    while len(said := error.encode()) > most:
        trace, text = error.traceback, error.message
        shorter = {"traceback": trace[len(trace) // 2 + 1 :]} if trace else {"message": text[: len(text) // 2]}
        error = error.model_copy(update=shorter)
    return said.decode()


@dataclass(frozen=True)
class DeadLetter:
    """A task that will not be tried again by itself. `at` is when it became one; `envelope` is None if unreadable."""

    task: str
    pool: str
    at: datetime
    error: TaskError
    stored: Stored
    envelope: Envelope | None = None

    @property
    def cut(self) -> str:
        """What of the message did not fit into the letter, empty when it is whole."""
        return self.stored.headers.get(subjects.HEADER_CUT, "")

    @property
    def handler(self) -> str:
        return self.envelope.handler if self.envelope else ""

    @property
    def attempt(self) -> int:
        return self.envelope.attempt if self.envelope else 1

    @property
    def object(self) -> str:
        """Name of the Task object, empty for a task of the SDK."""
        return self.envelope.object if self.envelope else ""


@dataclass(frozen=True)
class LetterFilter:
    """Which dead letters are meant; what is left out does not narrow. `handler` and `error` may hold `*` and `?`.

    `older` and `newer` say how long ago it became one (seconds), `tasks` names ids or Task objects.
    """

    handler: str = ""
    error: str = ""
    older: Span | None = None
    newer: Span | None = None
    tasks: Sequence[str] = ()

    def matches(self, letter: DeadLetter, now: datetime) -> bool:
        age = (now - letter.at).total_seconds()
        return (
            (not self.handler or fnmatchcase(letter.handler, self.handler))
            and (not self.error or fnmatchcase(letter.error.type, self.error))
            and (self.older is None or age >= read_seconds(self.older, "older"))
            and (self.newer is None or age <= read_seconds(self.newer, "newer"))
            and (not self.tasks or letter.task in self.tasks or (bool(letter.object) and letter.object in self.tasks))
        )


EVERY = LetterFilter()


def parse_letter(stored: Stored) -> DeadLetter:
    """The dead letter in a message of MILLPOND_DEAD; one that cannot be read is still one, with what can be read."""
    address = subjects.parse_dead(stored.subject)
    try:
        error = TaskError.decode(stored.headers.get(subjects.HEADER_ERROR, "").encode())
    except pydantic.ValidationError:
        error = TaskError(type="Unknown", message="the dead letter does not say why", retryable=False)
    try:
        envelope = parse_envelope(stored.headers.get(subjects.HEADER_ENVELOPE))
    except MalformedTask:
        envelope = None
    at = datetime.fromisoformat(stored.headers["Nats-Time-Stamp"])
    return DeadLetter(address.name, address.pool, at, error, stored, envelope)


@dataclass(frozen=True, slots=True)
class PutBack:
    """Store `event` with `expected` as the log's last sequence, then go on as `GoOn`."""

    expected: int
    event: TaskEvent


@dataclass(frozen=True, slots=True)
class GoOn:
    """It is in the log already: publish `envelope` (a repetition is harmless), then remove the letter."""


@dataclass(frozen=True, slots=True)
class Over:
    """The task has gone on since: the letter is a leftover, remove it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be redriven; the text says why and what to do."""

    why: str


def decide_redrive(view: TaskView, letter: DeadLetter, now: datetime) -> PutBack | GoOn | Over | Refused:
    """What puts the letter back, given the task's log (empty when it is older than the log's seven days)."""
    envelope, last = letter.envelope, view.last
    if envelope is None:
        return Refused("its envelope cannot be read, so nobody could run it: submit the task again, purge this")
    if letter.cut:
        return Refused(
            f"its message was too large to be kept whole ({letter.cut} are lost): submit it again, purge this"
        )
    if last is None:
        return PutBack(0, make_redriven(envelope, now))
    if last.state == TaskState.FAILED and last.attempt == envelope.attempt:
        return PutBack(last.sequence, make_redriven(envelope, now))
    if last.state == TaskState.QUEUED and last.reason == REDRIVEN and last.attempt == envelope.attempt + 1:
        return GoOn()
    if last.attempt > envelope.attempt:
        return Over()
    if last.state in TERMINAL:
        return Refused(f"the task has ended as {last.state} since: purge this")
    return Refused(f"the task was submitted again under its id and is {last.state}: purge this")


def make_redriven(envelope: Envelope, now: datetime) -> TaskEvent:
    """The event that a failed task is queued again; its policy's attempts start anew."""
    following = envelope.redriven(envelope.attempt)
    why = {"reason": REDRIVEN, "message": f"put back from the dead letters after {envelope.attempt} attempts"}
    return make_event(Origin(following, ""), TaskState.QUEUED, now).model_copy(update=why)
