"""A pool's scaling records: from the ledger's stream or from a file.

Owns the way to the records: NATS, by the SDK's transport. What a record means is `millpond_scaling.records`'. A record
that cannot be read is counted and said, never skipped in silence.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from millpond_api import subjects
from millpond_scaling.records import Record, RecordError, decode

from millpond_cli.errors import CliError
from millpond_cli.forwarding import CONNECT_SECONDS, broker
from millpond_cli.options import Target

STORED_WITHIN = timedelta(seconds=2)
"""A record is stored this long after its decision at the latest: it is published without waiting."""


@dataclass(frozen=True)
class Source:
    """Whose records, and over which NATS: a URL, or empty for the cluster's own through the API server."""

    target: Target
    pool: str
    nats: str = ""


@dataclass(frozen=True)
class Span:
    """From when to when; None: as far as the ledger goes."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, record: Record) -> bool:
        at = moment_of(record)
        return not (self.since and at < self.since) and not (self.until and at > self.until)


@dataclass
class Found:
    """The records that were read, oldest first, with the lines they came as, and what could not be read."""

    records: list[Record] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def moment_of(record: Record) -> datetime:
    return datetime.fromisoformat(record.at)


def collect(lines: Iterable[tuple[str, bytes]], span: Span) -> Found:
    """The records of a span from (place, line) pairs."""
    found = Found()
    for place, line in lines:
        try:
            record = decode(line)
            inside = span.holds(record)
        except (RecordError, ValueError, TypeError) as error:
            found.unreadable.append(f"{place}: {error}")
            continue
        if inside:
            found.records.append(record)
            found.lines.append(line)
    return found


def read_file(path: Path, span: Span) -> Found:
    """The records of a file with one on each line, as `replay --save` writes it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}") from error
    return collect(((f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip()), span)


def read_stream(source: Source, span: Span) -> Found:
    """The pool's records of a span from the ledger."""
    with broker(source.target, source.nats) as (url, namespace):
        stored = _run(_read_range(url, subjects.ledger(namespace, source.pool), span.since))
    return collect(stored, span)


def read_at(source: Source, moment: datetime) -> Record | None:
    """The last record at or before `moment`; None when the ledger does not reach back to it."""
    with broker(source.target, source.nats) as (url, namespace):
        lines = _run(_read_around(url, subjects.ledger(namespace, source.pool), moment))
    found = collect(lines, Span(until=moment))
    if found.unreadable and not found.records:
        raise CliError(f"the ledger of {source.pool} cannot be read: {found.unreadable[-1]}")
    return found.records[-1] if found.records else None


def _run(work: Coroutine[Any, Any, list[tuple[str, bytes]]]) -> list[tuple[str, bytes]]:
    from millpond.transport import StreamMissing, TransportError

    try:
        return asyncio.run(work)
    except StreamMissing:
        raise CliError("this NATS has no ledger (MILLPOND_LEDGER): the operator makes it when it leads") from None
    except TransportError as error:
        raise CliError(f"the ledger could not be read: {error}") from error


async def _read_range(url: str, subject: str, since: datetime | None) -> list[tuple[str, bytes]]:
    # 0.3 s on this import: only commands that read the ledger pay for it.
    from millpond.transport import Transport

    transport = await Transport.connect(url, "millpond-command", timeout=CONNECT_SECONDS)
    try:
        pages = transport.read_range(subjects.STREAM_LEDGER, subject, since)
        return [(f"record {stored.sequence}", stored.body) async for stored in pages]
    finally:
        await transport.close()


async def _read_around(url: str, subject: str, moment: datetime) -> list[tuple[str, bytes]]:
    """The last records that were stored up to `moment`, and those stored just after it, which may be older."""
    from millpond.transport import Transport

    transport = await Transport.connect(url, "millpond-command", timeout=CONNECT_SECONDS)
    try:
        last = await transport.read_last_until(subjects.STREAM_LEDGER, subject, moment)
        later = await transport.read_last_until(subjects.STREAM_LEDGER, subject, moment + STORED_WITHIN)
    finally:
        await transport.close()
    return [(f"record {stored.sequence}", stored.body) for stored in (last, later) if stored]
