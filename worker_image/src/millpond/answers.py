"""What NATS answers, as data and as typed errors: messages, stored messages, refusals. Pure.

Owns the meaning of statuses and JetStream error codes; `transport` sends, this reads. Code imports these names from
`transport`, which offers them together with what raises them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson

ERR_WRONG_SEQUENCE = 10071
ERR_MAXIMUM_REACHED = 10077
ERR_STREAM_NOT_FOUND = 10059
ERR_BATCH_DISABLED = 10174
ERR_BATCH_INCOMPLETE = 10176
ERR_BATCH_DUPLICATE = 10201
ERR_BATCH_TOO_MANY = 10210
ERR_NO_MESSAGE = (10037, 10043, 10057)
"""No message found to read; none to delete amid others that are there; none to delete where nothing is."""


class TransportError(Exception):
    """Base of what a request to the broker can end with."""


class Fenced(TransportError):
    """The subject's last sequence is not the expected one: somebody else wrote in between. `current` is the last."""

    def __init__(self, description: str) -> None:
        super().__init__(description)
        digits = description.rpartition(":")[2].strip()
        self.current: int | None = int(digits) if digits.isdigit() else None


class QueueFull(TransportError):
    """The stream holds as many messages as it may; nothing was stored."""


class StreamMissing(TransportError):
    """No stream takes this subject (or the one to read does not exist); nothing was stored."""


class Refused(TransportError):
    """The server said no for another reason; nothing was stored."""


class Duplicate(TransportError):
    """A message id of the batch is known to the stream (or stands in the batch twice); none of the batch was stored."""


class NoMessage(Refused):
    """The stream holds no message of this sequence (any more)."""


class AccessRefused(TransportError):
    """The server does not let these credentials in; trying again without a change would not help."""


class Unconfirmed(TransportError):
    """No answer (time or connection ran out). It is NOT known whether it was done: read again and decide again."""


class Message(NamedTuple):
    """A message as it arrived; a tuple is made in a quarter of a frozen dataclass's time.

    `status` is a server's control status such as `404`, empty for real messages: one with a body, and one of a stream
    (it has its sequence), whatever status its own headers speak of.
    """

    subject: str
    reply: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def status(self) -> str:
        return self.headers.get("Status", "") if not self.body and "Nats-Sequence" not in self.headers else ""

    @property
    def description(self) -> str:
        return self.headers.get("Description", "")


@dataclass(slots=True, frozen=True)
class Stored:
    """A message of a stream with its sequence."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def stored(self) -> float:
        """When the server stored it: epoch seconds of its clock."""
        return datetime.fromisoformat(self.headers["Nats-Time-Stamp"]).timestamp()


def read_stored(answer: Message) -> Stored:
    headers = answer.headers
    return Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], headers, answer.body)


def is_absent(answer: Message, stream: str) -> bool:
    """Whether a direct get found nothing; raises when its stream is missing or the server could not read."""
    match answer.status:
        case "":
            return False
        case "404":
            return True
        case "503":
            raise StreamMissing(f"stream {stream} does not exist (or direct reads of it are off)")
        case _:
            raise Unconfirmed(f"{stream} could not be read: {answer.status} {answer.description}")


def read_sequence(answer: Message) -> int:
    """The sequence in a publish answer; the typed error it stands for otherwise."""
    try:
        reply = orjson.loads(answer.body)
    except ValueError:
        raise Unconfirmed(f"not a stream's answer: {answer.body[:80]!r}") from None
    if "error" in reply:
        raise make_refusal(reply["error"])
    return int(reply["seq"])


def make_refusal(error: Mapping[str, object]) -> TransportError:
    """The typed error of a JetStream API error."""
    code, kind, text = error.get("code"), error.get("err_code"), str(error.get("description", ""))
    if kind == ERR_WRONG_SEQUENCE:
        return Fenced(text)
    if kind == ERR_MAXIMUM_REACHED:
        return QueueFull(text)
    if kind == ERR_STREAM_NOT_FOUND:
        return StreamMissing(text)
    if kind == ERR_BATCH_DUPLICATE:
        return Duplicate(text)
    if kind in (ERR_BATCH_INCOMPLETE, ERR_BATCH_TOO_MANY):
        # The connection broke amid the batch, or 50 others are under way: a new batch may pass.
        return Unconfirmed(text)
    if kind == ERR_BATCH_DISABLED:
        return Refused(f"{text}: the operator is older than this SDK, its streams take no batches; upgrade it")
    if kind in ERR_NO_MESSAGE:
        return NoMessage(text)
    # Other 503s are a server that starts, elects a leader or is overloaded: it may be different in a moment.
    return Unconfirmed(text) if code == 503 else Refused(f"{text} (JetStream error {kind})")
