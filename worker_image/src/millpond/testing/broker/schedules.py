"""Messages that the broker writes at their time (ADR-51): `Nats-Schedule: @at …`, its target and its TTL.

A due message is stored without the schedule's own headers, and the schedule goes in the same step. Only `@at` is
known; anything else is refused as an invalid pattern.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from millpond.testing.broker.store import Entry
from millpond.testing.broker.stream import Stream
from millpond.testing.broker.wire import NANOSECONDS, Refusal, parse_duration

FLOOR = 0.25
"""Seconds after storing before which nats-server 2.15 fires no schedule."""
_OWN = ("Nats-Schedule", "Nats-Schedule-Target", "Nats-Schedule-TTL", "Nats-Msg-Id")


class Schedules:
    """The schedules of one stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def on_stored(self, entry: Entry) -> None:
        if "Nats-Schedule" not in entry.headers:
            return
        now = self._stream.around.nanoseconds()
        wait = max(FLOOR, (parse_at(entry.headers["Nats-Schedule"]) - now) / NANOSECONDS)
        self._stream.around.after(wait, lambda: self._fire(entry))

    def on_removed(self, entry: Entry) -> None:
        """What is gone does not fire: `_fire` looks."""

    def _fire(self, schedule: Entry) -> None:
        if self._stream.store.get(schedule.sequence) is not schedule:
            return
        headers = {name: value for name, value in schedule.headers.items() if name not in _OWN}
        headers |= {"Nats-Scheduler": schedule.subject, "Nats-Schedule-Next": "purge"}
        if ttl := schedule.headers.get("Nats-Schedule-TTL"):
            headers["Nats-TTL"] = ttl
        self._stream.append(schedule.headers["Nats-Schedule-Target"], headers, schedule.data)
        self._stream.remove(schedule.sequence)


def check(stream: Stream, subject: str, headers: Mapping[str, str]) -> None:
    """Refusal for a schedule that could never be fired."""
    if "Nats-Schedule" not in headers:
        return
    parse_at(headers["Nats-Schedule"])
    if ttl := headers.get("Nats-Schedule-TTL"):
        try:
            parse_duration(ttl)
        except ValueError:
            raise Refusal(400, 10191, "message schedules invalid per-message TTL") from None
    target = headers.get("Nats-Schedule-Target", "")
    if target == subject or not stream.takes(target):
        raise Refusal(400, 10190, "message schedules target is invalid")


def parse_at(text: str) -> int:
    """Nanoseconds since the epoch of `@at <RFC 3339>`."""
    word, _, moment = text.partition(" ")
    try:
        if word != "@at":
            raise ValueError(text)
        found = datetime.fromisoformat(moment)
    except ValueError:
        raise Refusal(400, 10189, "message schedules pattern is invalid") from None
    if found.tzinfo is None:
        raise Refusal(400, 10189, "message schedules pattern is invalid")
    whole = int(found.astimezone(UTC).replace(microsecond=0).timestamp())
    return whole * NANOSECONDS + found.microsecond * 1000
