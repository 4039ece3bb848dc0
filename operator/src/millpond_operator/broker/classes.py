"""The queue of a pool by class, as its consumers count it.

Owns the sums over a class's own consumer and those of its lanes, which come and go. Survives a lane's end: what
its consumer had counted stays counted, so that the arrivals of a class never fall while its queue lives.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from millpond import transport as wire
from millpond.transport import Transport
from millpond_api import subjects

from millpond_operator.cluster_key import PoolKey


class ClassReading(NamedTuple):
    """One class of a queue: tasks that nobody has been given yet, and tasks that came (or came back) so far."""

    waiting: int
    arrived: int


class Counted(NamedTuple):
    """One consumer at one moment."""

    waiting: int
    delivered: int


@dataclass
class ClassCounts:
    """What the consumers of one pool had delivered when they were last seen, and those that are gone, by class."""

    delivered: dict[str, int] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)

    def add_up(self, consumers: Mapping[str, Counted]) -> dict[str, ClassReading]:
        """The classes, from all consumers of the pool by name; remembers them for the next time."""
        for name, delivered in self.delivered.items():
            parsed = subjects.parse_consumer(name)
            # Ended, or ended and made anew since: it begins again at nothing.
            if parsed and parsed[1] and (name not in consumers or consumers[name].delivered < delivered):
                self.gone[parsed[0]] = self.gone.get(parsed[0], 0) + delivered
        self.delivered = {name: one.delivered for name, one in consumers.items()}
        found: dict[str, ClassReading] = {}
        for name, one in consumers.items():
            parsed = subjects.parse_consumer(name)
            if parsed:
                before = found.get(parsed[0], ClassReading(0, self.gone.get(parsed[0], 0)))
                arrived = before.arrived + one.waiting + one.delivered
                found[parsed[0]] = ClassReading(before.waiting + one.waiting, arrived)
        return found


async def read_classes(transport: Transport, key: PoolKey, counts: ClassCounts) -> dict[str, ClassReading]:
    """The classes of a pool's queue, one request for each 256 consumers; empty when there is no such stream.

    A stream counts what it stored in all and not by subject; a consumer counts deliveries, so what is delivered again
    counts as arrived again: it has to be served again too. A task in a lane that no worker has found yet has no
    consumer; the lag, read by itself, holds it.
    """
    try:
        infos = [info async for info in _consumers(transport, subjects.pool_stream(*key))]
    except wire.StreamMissing:
        return {}
    seen = {info["name"]: Counted(int(info["num_pending"]), int(info["delivered"]["consumer_seq"])) for info in infos}
    return counts.add_up(seen)


async def _consumers(transport: Transport, stream: str) -> AsyncIterator[dict[str, Any]]:
    """Every consumer of a stream, page by page."""
    seen = 0
    while True:
        page: dict[str, Any] = await transport.api(f"CONSUMER.LIST.{stream}", {"offset": seen})
        found = page.get("consumers") or []
        for info in found:
            yield info
        seen += len(found)
        if not found or seen >= page.get("total", 0):
            return
