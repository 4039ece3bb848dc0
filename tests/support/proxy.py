"""A TCP proxy in front of a server, so that one party's connections can be cut, silenced or refused.

Owns the sockets of one party (a client, a worker) on the loopback; the server itself and everybody else go on. It
changes no byte. It survives a server that is away: a connection that finds none is closed, as the server would.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field

CHUNK = 65536


@dataclass
class Proxy:
    """Forwards to `target`, a port on the loopback. Belongs to the event loop that starts it."""

    target: int
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _refusing: bool = False
    _fatal: bytes = b""
    cuts: int = 0

    async def start(self) -> "Proxy":
        self._open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """End every connection without a word; clients may come again at once."""
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()

    def cut_at_answer(self, marker: bytes) -> None:
        """Once: cut instead of passing on what the server says with `marker` in it. It is done, and nobody hears it."""
        self._fatal = marker

    def refuse(self) -> None:
        """Cut, and let nobody in: for its party the server is gone; for the server its party has died."""
        self._refusing = True
        self.cut()

    def admit(self) -> None:
        self._refusing = False

    def silence(self) -> None:
        """Connections stay open and nothing passes, in either direction."""
        self._open.clear()

    def resume(self) -> None:
        """What was held passes now."""
        self._open.set()

    def close(self) -> None:
        self.refuse()
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._refusing:
                return
            there, out = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(out)
            try:
                await asyncio.wait(
                    [
                        asyncio.create_task(self._pump(reader, out, from_server=False)),
                        asyncio.create_task(self._pump(there, writer, from_server=True)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                self._writers.discard(out)
                out.transport.abort()
        # The server is away.
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                if from_server and self._fatal and self._fatal in data:
                    self._fatal = b""
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
