"""Atomic batches (ADR-50): messages that are stored all together with the last one, or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from millpond.testing.broker.schedules import check
from millpond.testing.broker.stream import Stream
from millpond.testing.broker.wire import Refusal

MOST, TIMEOUT = 1000, 10.0
"""Messages of a batch, and seconds after which one that does not go on is forgotten (nats-server's defaults)."""


@dataclass
class Open:
    """A batch that is being sent."""

    messages: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    at: int = 0


class Batches:
    """The open batches of a server, by stream and id."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Open] = {}

    def publish(
        self, stream: Stream, subject: str, headers: Mapping[str, str], data: bytes
    ) -> dict[str, object] | None:
        """Take one message of a batch; the answer of the last one, None for those before it."""
        if not stream.config.get("allow_atomic"):
            raise Refusal(400, 10174, "atomic publish is disabled")
        batch = headers["Nats-Batch-Id"]
        if not batch or len(batch) > 64:
            raise Refusal(400, 10179, "atomic publish batch ID is invalid")
        try:
            number = int(headers.get("Nats-Batch-Sequence", ""))
        except ValueError:
            raise Refusal(400, 10175, "atomic publish sequence is missing") from None
        key, now = (stream.name, batch), stream.around.nanoseconds()
        if number == 1:
            self._open[key] = Open(at=now)
        found = self._open.get(key)
        if found is None or number != len(found.messages) + 1 or now - found.at > TIMEOUT * 1e9:
            self._open.pop(key, None)
            raise Refusal(400, 10176, "atomic publish batch is incomplete")
        if number > MOST:
            del self._open[key]
            raise Refusal(400, 10199, f"atomic publish batch is too large: {MOST}")
        found.at = now
        found.messages.append((subject, dict(headers), data))
        if "Nats-Batch-Commit" not in headers:
            return None
        del self._open[key]
        return self._commit(stream, batch, found)

    def _commit(self, stream: Stream, batch: str, found: Open) -> dict[str, object]:
        """Check everything, then store everything."""
        seen: set[str] = set()
        written: set[str] = set()
        for place, (subject, headers, data) in enumerate(found.messages, start=1):
            msg_id = headers.get("Nats-Msg-Id", "")
            if stream.find_duplicate(headers) is not None or (msg_id and msg_id in seen):
                raise Refusal(400, 10201, "atomic publish batch contains duplicate message id")
            seen.add(msg_id)
            if subject in written and "Nats-Expected-Last-Subject-Sequence" in headers:
                # The sequence of what this very batch writes is not known to anybody yet.
                raise Refusal(400, 10164, "wrong last sequence")
            stream.check_expected(subject, headers)
            written.add(subject)
            stream.check_schedule(headers)
            check(stream, subject, headers)
            stream.check_room(subject, headers, data, place)
        for subject, headers, data in found.messages:
            last = stream.append(subject, headers, data)
        return {"stream": stream.name, "seq": last.sequence, "batch": batch, "count": len(found.messages)}
