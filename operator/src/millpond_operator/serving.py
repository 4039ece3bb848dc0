"""The operator's HTTP side: `/healthz`, `/readyz` and `/metrics`.

A standby is ready too: it can take over at once. Unhealthy means that the loop hung or a part of it died, and that a
restart helps; an API server or NATS that is away is not cured by a restart, so it is no reason to be unhealthy.
A few lines of HTTP instead of a web server, which costs 12 MB (measured).
"""

import asyncio
import time
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

HUNG_AFTER = 60.0
PATIENCE = 5.0
PLAIN = "text/plain; charset=utf-8"


class Pulse:
    """When the operator's loop last showed that it runs."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    async def run(self) -> None:
        while True:
            self.last = time.monotonic()
            await asyncio.sleep(1)

    @property
    def alive(self) -> bool:
        return time.monotonic() - self.last < HUNG_AFTER


def respond(pulse: Pulse, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body of a path."""
    if path in ("/healthz", "/readyz"):
        return (200, PLAIN, b"ok\n") if pulse.alive else (503, PLAIN, b"the loop hangs\n")
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest()
    return 404, PLAIN, b"there are /healthz, /readyz and /metrics\n"


async def serve(pulse: Pulse, host: str, port: int) -> None:
    """Serve until cancelled; nothing when the port is 0."""
    if port == 0:
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            target = head.split(b" ", 2)[1].decode(errors="replace")
            status, kind, body = respond(pulse, target.partition("?")[0])
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n"
            writer.write(f"{line}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError, OSError):
            # Whoever it was does not speak HTTP or is gone.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port)
    async with server:
        await server.serve_forever()
