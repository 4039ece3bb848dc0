"""What is stored, as data: a message for a stream, a schedule, the parts of an atomic batch. Pure.

Owns the headers that tell JetStream how to store; `transport` sends them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from millpond_api import subjects

SCHEDULE_TTL = "168h"
"""How long a due message may wait in MILLPOND_DELAYED for its pool's stream to take it."""


@dataclass(slots=True, frozen=True)
class Outgoing:
    """A message for a stream. `msg_id` dedupes within the stream's window."""

    subject: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    msg_id: str = ""

    def wire_headers(self) -> dict[str, str]:
        """The headers as they are sent."""
        return wire_headers(self.headers, self.msg_id)


def wire_headers(headers: Mapping[str, str], msg_id: str) -> dict[str, str]:
    """In a dictionary of our own: nats-py may change what it is handed."""
    return {**headers, subjects.HEADER_MSG_ID: msg_id} if msg_id else dict(headers)


def make_schedule(message: Outgoing, target: str, at: datetime) -> Outgoing:
    """`message` (to a subject of `subjects.later`) such that the server writes it to `target` at `at`."""
    # RFC 3339 without a fraction would be up to a second early: round up to the next millisecond instead.
    moment = at.astimezone(UTC) + timedelta(microseconds=999)
    schedule = {
        subjects.HEADER_SCHEDULE: f"@at {moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond // 1000:03d}Z",
        subjects.HEADER_SCHEDULE_TARGET: target,
        subjects.HEADER_SCHEDULE_TTL: SCHEDULE_TTL,
    }
    return replace(message, headers={**message.headers, **schedule})


def make_batch(batch: str, messages: Sequence[Outgoing]) -> list[Outgoing]:
    """The messages as one atomic batch (ADR-50): all are stored with the last one, in this order, or none is."""
    parts = []
    for number, message in enumerate(messages, start=1):
        headers = {**message.headers, subjects.HEADER_BATCH: batch, subjects.HEADER_BATCH_SEQUENCE: str(number)}
        if number == len(messages):
            headers[subjects.HEADER_BATCH_COMMIT] = "1"
        parts.append(replace(message, headers=headers))
    return parts
