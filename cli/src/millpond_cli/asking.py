"""NATS for the command: where it is, and one piece of work with the SDK's client there.

Owns the connection of a command, from its options to its end. The SDK's errors become `CliError`: they are sentences
already. It must not know what is asked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from millpond_cli.errors import CliError
from millpond_cli.forwarding import CONNECT_SECONDS, broker
from millpond_cli.options import Target

if TYPE_CHECKING:
    from millpond.client import Client

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Over which NATS, in which namespace."""

    target: Target
    nats: str = ""


def ask(place: Place, work: Callable[["Client"], Awaitable[T]]) -> T:
    """What `work` finds with a connected client."""
    # 0.3 s on these imports: only commands that speak NATS pay for them.
    from millpond.client import Client
    from millpond.errors import MillpondError

    async def run(url: str, namespace: str) -> T:
        async with Client.connect(url, namespace=namespace, timeout=CONNECT_SECONDS) as client:
            return await work(client)

    with broker(place.target, place.nats) as (url, namespace):
        try:
            return asyncio.run(run(url, namespace))
        except MillpondError as error:
            raise CliError(str(error)) from error
