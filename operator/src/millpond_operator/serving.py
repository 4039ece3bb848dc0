"""The operator's HTTP side: `/healthz`, `/readyz` and `/metrics`.

A standby is ready too: it can take over at once. Unhealthy means that the loop hung or a part of it died, and that a
restart helps; an API server or NATS that is away is not cured by a restart, so it is no reason to be unhealthy.
"""

import asyncio
import time

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

HUNG_AFTER = 60.0


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


def make_app(pulse: Pulse) -> Starlette:
    """The three pages."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok" if pulse.alive else "the loop hangs", 200 if pulse.alive else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", healthz), Route("/metrics", metrics)])


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the composition root has them."""

    def install_signal_handlers(self) -> None:
        return None


async def serve(pulse: Pulse, host: str, port: int) -> None:
    """Serve until cancelled; nothing when the port is 0."""
    if port == 0:
        return
    config = uvicorn.Config(
        make_app(pulse), host=host, port=port, log_level="warning", access_log=False, lifespan="off"
    )
    await Server(config).serve()
