"""The in-memory broker as a server that URLs lead to: `memory://<number>/<party>`.

Owns the parties (a client, a worker) and what is done to their connections; streams and messages are the broker's.
"""

import itertools
from typing import Any

from millpond_api import broker as shapes
from millpond_api import subjects
from millpond_api.broker import QueueConfig

from millpond.link import Link, register_scheme
from millpond.testing.broker.link import MemoryLink, Party
from millpond.testing.broker.server import Broker
from millpond.transport import Refused, Transport

SCHEME = "memory"
_NUMBERS = itertools.count(1)
_SERVERS: dict[str, "MemoryServer"] = {}


class MemoryServer:
    """A broker with a URL. Make it in the event loop that it is to live in; `close` it."""

    def __init__(self) -> None:
        self.broker = Broker()
        self._name = str(next(_NUMBERS))
        self._parties: dict[str, Party] = {}
        _SERVERS[self._name] = self

    def url(self, party: str = "client") -> str:
        """What this party connects to; parties are hurt by their names."""
        return f"{SCHEME}://{self._name}/{party}"

    def party(self, name: str) -> Party:
        return self._parties.setdefault(name, Party(name))

    def cut(self, party: str) -> None:
        """End the party's connections; it comes back by itself."""
        for link in list(self.party(party).links):
            link.cut()

    def silence(self, party: str) -> None:
        """Its connections stay open and nothing passes, until `resume`."""
        self.party(party).silent = True

    def resume(self, party: str) -> None:
        found = self.party(party)
        found.silent = False
        for link in list(found.links):
            link.resume()

    def refuse(self, party: str) -> None:
        """Its connections end and no new ones are let in, until `admit`."""
        self.party(party).refused = True
        self.cut(party)

    def admit(self, party: str) -> None:
        self.party(party).refused = False

    def stop(self, *, hard: bool = False) -> None:
        """Streams stay; `hard` also forgets which messages had been delivered, as a kill may."""
        self.broker.stop(hard=hard)
        for name in list(self._parties):
            self.cut(name)

    def start(self) -> None:
        self.broker.start()

    def close(self) -> None:
        self.broker.stop()
        _SERVERS.pop(self._name, None)


def _make(url: str) -> Link:
    name, _, party = url.partition("://")[2].partition("/")
    server = _SERVERS.get(name)
    if server is None:
        raise ConnectionRefusedError(f"{url}: this in-memory broker is closed; it lives as long as its test")
    return MemoryLink(server.broker, server.party(party or "client"))


register_scheme(SCHEME, _make)


async def ensure_pool(transport: Transport, queue: QueueConfig) -> None:
    """The streams and consumers of a pool, as the operator makes them."""
    for config in (*shapes.shared_streams(), shapes.pool_stream(queue)):
        await _ensure_stream(transport, config)
    stream = subjects.pool_stream(queue.namespace, queue.pool)
    for task_class in queue.classes:
        consumer = shapes.class_consumer(queue, task_class)
        ask = {"stream_name": stream, "config": consumer}
        await transport.api(f"CONSUMER.CREATE.{stream}.{consumer['durable_name']}", ask)


async def _ensure_stream(transport: Transport, config: dict[str, Any]) -> None:
    try:
        await transport.api(f"STREAM.CREATE.{config['name']}", config)
    except Refused:
        # It is there with another configuration.
        await transport.api(f"STREAM.UPDATE.{config['name']}", config)
