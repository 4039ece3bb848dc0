"""Find the workers that are connected to a NATS, of all pools and namespaces, without Kubernetes: by `$SRV.STATS`.

Owns the asking side of ADR-32. Nobody knows how many will answer, so it listens for as long as it is told; a worker
that is cut off or too busy is missing from the answer, which is therefore no census: the operator's Workers are.
"""

import asyncio
from dataclasses import dataclass

import pydantic
from millpond_api import subjects
from millpond_api.wire import Wire
from pydantic import Field

from millpond.transport import Message, Transport


class _Figures(Wire):
    num_requests: int = 0
    num_errors: int = 0
    average_processing_time: int = 0


class _Stats(Wire):
    id: str
    version: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)
    endpoints: list[_Figures] = Field(default_factory=list)


@dataclass(frozen=True)
class FoundWorker:
    """A worker as it tells of itself. `served` are attempts that ended since its start; `mean` their seconds."""

    namespace: str
    pool: str
    worker: str
    state: str
    slots: int
    in_flight: int
    handlers: tuple[str, ...]
    served: int = 0
    failed: int = 0
    mean: float = 0.0
    version: str = ""


async def discover(transport: Transport, wait: float = 1.0) -> list[FoundWorker]:
    """Everybody who answers within `wait` seconds, by namespace, pool and name."""
    found: dict[str, FoundWorker] = {}

    async def hear(message: Message) -> None:
        try:
            stats = _Stats.decode(message.body)
            found[stats.id] = _read(stats)
        except (pydantic.ValidationError, ValueError):
            return  # Somebody else's service of the same name.

    inbox = transport.new_inbox()
    subscription = await transport.subscribe(inbox, hear)
    try:
        await transport.send(subjects.service_ask("STATS"), reply=inbox)
        await asyncio.sleep(wait)
    finally:
        await subscription.close()
    return sorted(found.values(), key=lambda one: (one.namespace, one.pool, one.worker))


def _read(stats: _Stats) -> FoundWorker:
    said, figures = stats.metadata, stats.endpoints[0] if stats.endpoints else _Figures()
    return FoundWorker(
        said.get("namespace", ""),
        said.get("pool", ""),
        said.get("worker", ""),
        said.get("state", ""),
        int(said.get("slots", 0)),
        int(said.get("in_flight", 0)),
        tuple(one for one in said.get("handlers", "").split(",") if one),
        figures.num_requests,
        figures.num_errors,
        figures.average_processing_time / 1e9,
        stats.version,
    )
