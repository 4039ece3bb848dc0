"""The writer of statuses: the newest of each object, as JSON while it waits, and never one that is older."""

import asyncio
from typing import Any, cast

import orjson
from millpond_operator.cluster.api import ApiError
from millpond_operator.cluster.writer import StatusWriter, Target

from tests.support.eventually import eventually

WORKER = Target("workers", "default", "w1", "uid-1")
REFUSED = "the server rejected our request due to an error in our request"


class Server:
    """The statuses that were patched, decoded as the API server does."""

    def __init__(self, *refusals: ApiError) -> None:
        self.refusals = list(refusals)
        self.patched: list[tuple[str, Any]] = []

    async def json_patch(self, target: str, operations: list[dict[str, Any]]) -> None:
        test, add = orjson.loads(orjson.dumps(operations))
        assert (test["path"], test["value"]) == ("/metadata/uid", "uid-1")
        self.patched.append((target.rpartition("/v1alpha1/")[2], add["value"]))
        if self.refusals:
            raise self.refusals.pop()


async def write(server: Server, *statuses: dict[str, Any], count: int = 1) -> StatusWriter:
    """A writer that was given these at once, after so many patches."""
    writer = StatusWriter(cast(Any, server))
    for rank, status in enumerate(statuses):
        writer.put(WORKER, status, rank)
    running = asyncio.create_task(writer.run())
    await eventually(lambda: len(server.patched) >= count and not len(writer.queue), what="the patches")
    running.cancel()
    return writer


async def test_of_several_statuses_that_wait_the_newest_is_written_as_it_was_given() -> None:
    server, status = Server(), {"state": "Busy", "result": {"a": None}, "running": ["t1"]}
    await write(server, {"state": "Idle"}, status)
    assert server.patched == [("namespaces/default/workers/w1/status", status)]


async def test_an_older_status_is_not_accepted() -> None:
    server = Server()
    writer = await write(server, {"state": "Idle"}, {"state": "Busy"})
    assert not writer.put(WORKER, {"state": "Idle"}, 0)


async def test_an_object_of_the_same_name_is_left_alone_and_forgotten() -> None:
    server = Server(ApiError(422, "Invalid", REFUSED))
    writer = await write(server, {"state": "Idle"})
    assert writer.writes == 0
    assert writer.put(WORKER, {"state": "Starting"}, -1)


async def test_a_status_that_met_no_server_is_written_later() -> None:
    server = Server(ApiError(503, "ServiceUnavailable", "starting"))
    writer = await write(server, {"state": "Idle"}, count=2)
    assert [status for _, status in server.patched] == [{"state": "Idle"}] * 2
    assert writer.writes == 1
