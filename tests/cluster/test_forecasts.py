"""A forecast raises the floor, outlives its leader, and a pool that asked for none has none."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
from millpond.transport import Transport
from millpond_api import subjects
from millpond_scaling.forecast import EVIDENCE, History, Plan, begin, from_json, to_json

from tests.support.eventually import eventually_sync
from tests.support.kube import Body, condition
from tests.support.works import LONG, Works

PLAN = Plan(600.0)
SCALING: dict[str, Any] = {"maxWorkers": 5, "forecast": {"ahead": "10m"}}


def sure_of(workers: float) -> History:
    """A history that has proven itself and knows one number for every time of the day."""
    new = begin(PLAN)
    profile, seasons = (workers,) * len(new.profile), (5,) * len(new.profile)
    return replace(new, profile=profile, seasons=seasons, saved=1e6, scored=EVIDENCE, on=True)


def keep(works: Works, pool: str, history: History) -> None:
    async def publish() -> None:
        transport = await Transport.connect(works.server.url, "test", timeout=10)
        await transport.publish_stored(subjects.history(works.namespace, pool), orjson.dumps(to_json(history)))
        await transport.close()

    asyncio.run(publish())


def kept(works: Works, pool: str) -> History | None:
    async def read() -> History | None:
        transport = await Transport.connect(works.server.url, "test", timeout=10)
        stored = await transport.read_last(subjects.STREAM_HISTORY, subjects.history(works.namespace, pool))
        await transport.close()
        return from_json(orjson.loads(stored.body), PLAN) if stored else None

    return asyncio.run(read())


def status_of(works: Works, pool: str) -> Body:
    found: Body = works.kube.get("workerpools", pool).get("status") or {}
    return found


def test_a_proven_forecast_raises_the_floor_and_the_next_leader_goes_on_with_it(own_works: Works) -> None:
    first = own_works.start_operator("operator-a")
    keep(own_works, "rush", sure_of(3.0))
    own_works.make_pool("rush", scaling=SCALING)
    own_works.scales_to("rush", 3)
    eventually_sync(
        lambda: "forecast" in condition(own_works.kube.get("workerpools", "rush"), "Scaling").get("message", ""), LONG
    )
    assert "the forecast is on" in status_of(own_works, "rush")["forecast"]
    # What it learnt meanwhile is kept: a bin of now is open in it.
    eventually_sync(lambda: (kept(own_works, "rush") or begin(PLAN)).open.number > 0, LONG, "the history kept", 0.3)
    own_works.kill_leader(first)
    own_works.start_operator("operator-b")
    own_works.kube.patch("workerpools", "rush", {"spec": {"scaling": {"maxWorkers": 2}}})
    own_works.scales_to("rush", 2)
    own_works.kube.patch("workerpools", "rush", {"spec": {"scaling": {"maxWorkers": 5}}})
    own_works.scales_to("rush", 3)


def test_a_new_forecast_learns_in_silence_and_one_that_nobody_asked_for_is_not_kept(works: Works, pool: str) -> None:
    works.make_pool(f"{pool}-with", scaling=SCALING)
    works.make_pool(f"{pool}-without", scaling={"maxWorkers": 5})
    eventually_sync(lambda: "learns" in (status_of(works, f"{pool}-with").get("forecast") or ""), LONG, "it learns")
    eventually_sync(lambda: kept(works, f"{pool}-with"), LONG, "the history kept", 0.3)
    assert works.deployment_replicas(f"{pool}-with") == 0
    assert "forecast" not in status_of(works, f"{pool}-without")
    assert kept(works, f"{pool}-without") is None
