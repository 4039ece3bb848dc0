"""Who waits for whom at the API server: growth for growth, everything else behind the growth that waits already."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from millpond_operator.cluster import api as api_module
from millpond_operator.cluster.api import GROWING, Api

from tests.support.eventually import eventually

SCALE = "/apis/apps/v1/namespaces/n/deployments/d/scale"
STATUS = "/apis/millpond.dev/v1alpha1/namespaces/n/workerpools/p/status"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/n/leases/l"


class Answer:
    status = 200

    async def read(self) -> bytes:
        return b""


class Slow(Api):
    """The API client's lines in front of a server that answers one request whenever it is told to."""

    def __init__(self) -> None:
        everybody, urgent = asyncio.Semaphore(api_module.IN_FLIGHT), asyncio.Semaphore(GROWING)
        super().__init__(None, None, everybody, urgent)  # type: ignore[arg-type]
        self.asked: list[str] = []
        self.turns = asyncio.Semaphore(0)

    @asynccontextmanager
    async def _send(
        self, method: str, resource: str, data: bytes | None, content_type: str, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[Any]:
        self.asked.append(resource)
        await self.turns.acquire()
        yield Answer()

    async def settle(self) -> None:
        """Everything that can run without an answer has run."""
        for _ in range(3 * GROWING):
            await asyncio.sleep(0)


async def ask(api: Slow, *resources: str) -> list[asyncio.Task[Any]]:
    asked = [asyncio.create_task(api.request("PATCH", resource, {})) for resource in resources]
    await api.settle()
    return asked


async def finish(api: Slow, asked: list[asyncio.Task[Any]]) -> None:
    for _ in asked:
        api.turns.release()
    await asyncio.gather(*asked)


async def test_a_herd_of_wakes_is_patched_before_statuses_that_come_later() -> None:
    api = Slow()
    asked = await ask(api, *[SCALE] * (GROWING + 5), STATUS)
    assert api.asked == [SCALE] * GROWING
    await finish(api, asked)
    assert api.asked == [*[SCALE] * (GROWING + 5), STATUS]


async def test_a_status_waits_for_no_growth_that_fits() -> None:
    api = Slow()
    asked = await ask(api, *[SCALE] * (GROWING - 1), STATUS)
    assert api.asked[-1] == STATUS
    await finish(api, asked)


async def test_a_status_behind_an_endless_herd_is_late_by_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "GROWTH_FIRST", 0.01)
    api = Slow()
    herd = await ask(api, *[SCALE] * (3 * GROWING))
    status = asyncio.create_task(api.request("PATCH", STATUS, {}))
    await eventually(lambda: STATUS in api.asked, 30, "the status")
    assert api.asked == [*[SCALE] * GROWING, STATUS]
    await finish(api, [*herd, status])


async def test_the_lease_waits_for_nobody() -> None:
    api = Slow()
    herd = await ask(api, *[SCALE] * (2 * GROWING), *[STATUS] * 40)
    renewed = await ask(api, LEASE)
    assert api.asked[-1] == LEASE
    await finish(api, herd + renewed)
