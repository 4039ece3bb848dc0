"""Answers Kubernetes' probes: `/healthz` (is it alive?) and `/readyz` (does it take part?), on the main loop.

A few lines of HTTP instead of a web server, whose import alone would take longer than the rest of the start. If the
main loop hangs there is no answer at all, which a probe counts the same as a 503.
"""

import asyncio
import time

from millpond.worker.board import Board

STALE = 30.0
"""Seconds without a tick after which the main loop or the keeper counts as hung."""
_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


async def serve_health(board: Board, port: int) -> asyncio.Server:
    """Listen on all addresses; the kubelet asks from outside of the pod."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5.0)
            status, text = respond(board, head.split(b" ", 2)[1].decode(errors="replace"), time.monotonic())
            body = text.encode()
            line = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            writer.write(f"{line}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError, OSError):
            # Whoever it was does not speak HTTP or is gone.
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, port=port)


def respond(board: Board, path: str, now: float) -> tuple[int, str]:
    """Status and text for a path. A drained worker stays ready: losing readiness would change which pod is removed."""
    if path.startswith("/healthz"):
        for name, tick in (("main loop", board.main_tick), ("lease keeper", board.keeper_tick)):
            if now - tick > STALE:
                return 503, f"the {name} has not moved for {now - tick:.0f} s\n"
        return 200, "ok\n"
    if path.startswith("/readyz"):
        return (200, f"{board.state}\n") if board.ready else (503, "not connected to the pool's queue yet\n")
    return 404, "there are /healthz and /readyz\n"
