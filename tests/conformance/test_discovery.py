"""Service discovery (ADR-32): NATS alone lists the workers with their handlers and figures."""

from typing import Any

import orjson
import pytest
from millpond.discovery import discover
from millpond_api import subjects

from tests.support.bed import START, Bed


async def ask(bed: Bed, subject: str) -> Any:
    return orjson.loads((await bed.transport.request(subject, timeout=START)).body)


async def test_workers_are_found_with_their_handlers_and_figures(bed: Bed) -> None:
    @bed.app.task("grind")
    async def grind() -> None: ...

    for name in ("w1", "w2"):
        await bed.start_worker(name)
    for _ in range(3):
        await bed.call("grind")
    namespace = bed.queue.namespace

    async def both() -> Any:
        found = [one for one in await discover(bed.transport, wait=0.5) if one.namespace == namespace]
        assert sum(one.served for one in found) == 3, found
        return len(found) == 2 and found

    first, second = await bed.until(both, "both workers")
    assert (first.pool, first.worker, second.worker) == ("mill", "w1", "w2")
    assert (first.state, first.slots, first.in_flight, first.handlers) == ("Idle", 4, 0, ("grind",))
    assert first.failed == second.failed == 0
    assert first.mean + second.mean > 0


@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
async def test_a_worker_answers_as_the_service_protocol_has_it(bed: Bed, verb: str) -> None:
    """By its id; that it also hears the other two forms, `nats micro` and the test above rely on."""
    worker = await bed.start_worker("w1")
    name = f"w1-{worker.worker.board.incarnation}"
    said = await ask(bed, f"{subjects.service_ask(verb)}.{name}")
    assert (said["type"], said["name"]) == (f"io.nats.micro.v1.{verb.lower()}_response", "millpond-worker")
    assert (said["id"], said["metadata"]["worker"]) == (name, "w1")
    assert all(isinstance(value, str) for value in said["metadata"].values())
    if verb == "INFO":
        assert {"ping", "drain", "cancel", "query"} <= {one["name"] for one in said["endpoints"]}
    if verb == "STATS":
        assert said["endpoints"][0]["num_requests"] == 0
