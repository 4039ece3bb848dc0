"""Direct get: the last message of a subject, one by sequence, many in a batch, the last of many (ADR-31)."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from millpond.testing.broker.store import Entry
from millpond.testing.broker.stream import Stream
from millpond.testing.broker.wire import NANOSECONDS, Packet, matches, status

MOST_SUBJECTS = 1024


def read_direct(stream: Stream, subject: str, body: bytes) -> Iterator[Packet]:
    """The answers to a direct get of `subject` (from the request's own subject) or of what the body asks."""
    if subject:
        last = stream.store.last_of(subject)
        yield _message(stream, last) if last else _absent()
        return
    try:
        ask = json.loads(body or b"{}")
    except ValueError:
        yield Packet("", headers=status(408, "Malformed Request"))
        return
    if not isinstance(ask, dict) or not any(
        ask.get(name) for name in ("seq", "last_by_subj", "next_by_subj", "multi_last", "start_time")
    ):
        yield Packet("", headers=status(408, "Empty Request"))
    elif ask.get("multi_last"):
        yield from _read_lasts(stream, ask)
    elif ask.get("batch"):
        yield from _read_batch(stream, ask)
    else:
        found = _find(stream, ask)
        yield _message(stream, found) if found else _absent()


def _find(stream: Stream, ask: Mapping[str, Any]) -> Entry | None:
    if ask.get("last_by_subj"):
        return stream.store.last_of(ask["last_by_subj"])
    if ask.get("next_by_subj"):
        return stream.store.next_of(ask["next_by_subj"], _begin(stream, ask))
    if ask.get("start_time"):
        return stream.store.next_of(">", _begin(stream, ask))
    return stream.store.get(ask["seq"])


def _read_batch(stream: Stream, ask: Mapping[str, Any]) -> Iterator[Packet]:
    """Up to `batch` messages, then a 204 with how many more there are."""
    found = list(stream.store.select(ask.get("next_by_subj") or ">", _begin(stream, ask)))
    if not found:
        yield _absent()
        return
    previous, size = 0, 0
    page = found[: ask["batch"]]
    for place, entry in enumerate(page):
        size += len(entry.data)
        if place and 0 < (ask.get("max_bytes") or 0) < size:
            page = page[:place]
            break
        yield _message(stream, entry, {"Nats-Num-Pending": len(found) - place - 1, "Nats-Last-Sequence": previous})
        previous = entry.sequence
    yield _end({"Nats-Num-Pending": len(found) - len(page), "Nats-Last-Sequence": previous})


def _read_lasts(stream: Stream, ask: Mapping[str, Any]) -> Iterator[Packet]:
    """The last message of each matching subject, by sequence, as it was at `up_to_seq` or `up_to_time`."""
    until = ask.get("up_to_seq") or stream.store.last
    if ask.get("up_to_time"):
        # Stored at or before that moment, which nats-server takes as: before the next one begins.
        moment = nanoseconds(ask["up_to_time"])
        until = max((entry.sequence for entry in stream.store if entry.at <= moment), default=0)
    lasts: dict[str, Entry] = {}
    for entry in stream.store:
        if entry.sequence <= until and any(matches(pattern, entry.subject) for pattern in ask["multi_last"]):
            lasts[entry.subject] = entry
    if len(lasts) > MOST_SUBJECTS:
        yield Packet("", headers=status(413, "Too Many Results"))
        return
    found = sorted(lasts.values(), key=lambda entry: entry.sequence)
    if not found:
        yield Packet("", headers=status(404, "No Results"))
        return
    previous = 0
    page = found[: ask.get("batch") or len(found)]
    for place, entry in enumerate(page):
        yield _message(stream, entry, {"Nats-Num-Pending": len(found) - place - 1, "Nats-Last-Sequence": previous})
        previous = entry.sequence
    left = {"Nats-Num-Pending": len(found) - len(page), "Nats-Last-Sequence": previous, "Nats-UpTo-Sequence": until}
    yield _end(left)


def _begin(stream: Stream, ask: Mapping[str, Any]) -> int:
    if ask.get("start_time"):
        return stream.store.since(nanoseconds(ask["start_time"]))
    return int(ask.get("seq") or 1)


def _message(stream: Stream, entry: Entry, more: Mapping[str, int] | None = None) -> Packet:
    headers = {
        **entry.headers,
        "Nats-Stream": stream.name,
        "Nats-Subject": entry.subject,
        "Nats-Sequence": str(entry.sequence),
        "Nats-Time-Stamp": entry.time,
        **{name: str(value) for name, value in (more or {}).items()},
    }
    return Packet("", entry.data, headers=headers)


def _absent() -> Packet:
    return Packet("", headers=status(404, "Message Not Found"))


def _end(more: Mapping[str, int]) -> Packet:
    return Packet("", headers=status(204, "EOB", **{name: str(value) for name, value in more.items()}))


def nanoseconds(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time."""
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * NANOSECONDS + moment.microsecond * 1000
