"""Requests of one connection: what counts as an answer in time."""

import asyncio
import threading

from millpond.transport import Transport

from tests.support.eventually import eventually
from tests.support.nats import NatsServer, connected

TIMEOUT = 1.0
PATIENCE = 60.0


class Responder(threading.Thread):
    """Answers one request from a loop of its own, while the loop of the one who asked stands still."""

    def __init__(self, url: str, subject: str) -> None:
        super().__init__(daemon=True)
        self.url, self.subject = url, subject
        self.listens, self.heard, self.stands, self.over = (threading.Event() for _ in range(4))

    def run(self) -> None:
        asyncio.run(self._answer())

    async def _answer(self) -> None:
        async with connected(self.url) as connection:
            requests = await connection.subscribe(self.subject)
            await connection.flush()
            self.listens.set()
            request = await requests.next_msg(timeout=PATIENCE)
            self.heard.set()
            self.stands.wait(PATIENCE)
            await request.respond(b"in time")
            await connection.flush()
            await asyncio.sleep(2 * TIMEOUT)
            self.over.set()


async def test_an_answer_that_came_while_the_loop_stood_still_is_an_answer(
    nats_server: NatsServer, namespace: str
) -> None:
    """A process that was stopped for seconds failed every request under way, with the answers in its socket."""
    responder = Responder(nats_server.url, f"{namespace}.ask")
    responder.start()
    await eventually(responder.listens.is_set, PATIENCE, "the responder")
    transport = await Transport.connect(nats_server.url, "test", timeout=PATIENCE)
    asking = asyncio.create_task(transport.request(responder.subject, timeout=TIMEOUT))
    await eventually(responder.heard.is_set, PATIENCE, "the request")
    responder.stands.set()
    # The loop stands still: nothing is read, and no timer runs.
    responder.over.wait(PATIENCE)
    assert (await asking).body == b"in time"
    await transport.close()
    responder.join()
