"""The object store: results too large for an event, in MILLPOND_OBJECTS. Each object has a time to live.

Owns how an object lies there: one subject, chunks in order, stored as one atomic batch, so that it is whole or absent.
An object is stored BEFORE the event that names it (protocol: the event is the commit); one whose event never came (a
fenced attempt, a lost answer) is named by nobody and goes with its time. It must not decide what belongs here.
"""

import math
import secrets

from millpond_api import subjects

from millpond.transport import Outgoing, Transport

CHUNK = 512 * 1024
"""Bytes of a message: half of what NATS carries by default."""
PAGE = 8
"""Chunks read at once: 4 MiB, far from what makes the server call a reader slow."""
STORE_TIMEOUT = 30.0
READ_TIMEOUT = 30.0


def new_object_name(task_id: str) -> str:
    """A name that no other try has: a lost answer leaves an object that nobody names."""
    return f"{task_id}.{secrets.token_hex(6)}"


async def store_object(transport: Transport, where: tuple[str, str], name: str, body: bytes, ttl: float) -> None:
    """Store `body` under `name` in the pool `where` (namespace, pool) for `ttl` seconds. Errors as of a publish."""
    subject = subjects.stored_object(*where, name)
    # Whole seconds, at least one: what the server takes.
    headers = {subjects.HEADER_TTL: f"{max(1, math.ceil(ttl))}s"}
    chunks = [body[start : start + CHUNK] for start in range(0, len(body), CHUNK)]
    await transport.publish_batch([Outgoing(subject, chunk, headers) for chunk in chunks], STORE_TIMEOUT)


async def read_object(transport: Transport, where: tuple[str, str], name: str, size: int) -> bytes | None:
    """The object's bytes; None when it is gone, or partly so."""
    subject = subjects.stored_object(*where, name)
    pages = transport.read_range(subjects.STREAM_OBJECTS, subject, page=PAGE)
    body = b"".join([chunk.body async for chunk in pages])
    return body if len(body) == size else None
