"""What the operator writes down of its decisions can be made again; shadow mode writes them down and does nothing."""

import asyncio
from typing import Any

from millpond.transport import Transport
from millpond_api import subjects
from millpond_scaling.records import Record, again, decode

from tests.support.eventually import eventually_sync
from tests.support.kube import Body, condition
from tests.support.works import LONG, Works


def read_records(works: Works, pool: str) -> list[Record]:
    """The pool's records in the stream, oldest first."""

    async def read() -> list[Record]:
        transport = await Transport.connect(works.server.url, "test", timeout=10)
        try:
            subject = subjects.ledger(works.namespace, pool)
            return [decode(one.body) async for one in transport.read_range(subjects.STREAM_LEDGER, subject)]
        finally:
            await transport.close()

    return asyncio.run(read())


def status_of(works: Works, pool: str) -> Body:
    found: Body = works.kube.get("workerpools", pool).get("status") or {}
    return found


def entries(works: Works, pool: str, **wanted: Any) -> list[Body]:
    """The entries of status.decisions that say this."""
    return [
        one for one in status_of(works, pool).get("decisions") or [] if all(one.get(k) == v for k, v in wanted.items())
    ]


def test_every_change_of_a_pool_is_recorded_and_decides_the_same_again(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"maxWorkers": 2, "idleAfter": "1s", "scaleDown": {"stabilization": "1s"}})
    works.pool_is_ready(pool)
    for number in range(5):
        works.make_task(f"{pool}-{number}", pool)
    works.scales_to(pool, 2)
    works.start_worker(pool)
    works.all_reach("Succeeded", pool, 5)
    works.scales_to(pool, 0)
    eventually_sync(lambda: read_records(works, pool)[-1].decision.current == 0, LONG, "the end in the stream", 0.3)
    records = read_records(works, pool)
    assert [again(record) for record in records] == [None] * len(records)
    assert all(record.pool == pool and record.seen.wall > 0 for record in records)
    up = [record for record in records if record.acted and record.decision.target > record.decision.current]
    assert up[-1].decision.target == 2
    assert any(record.acted and record.decision.target == 0 for record in records)
    assert max(record.decision.target for record in records) == 2


def test_growth_that_a_bound_refuses_stands_in_the_status_once(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"minWorkers": 1, "maxWorkers": 1})
    works.scales_to(pool, 1)
    for number in range(6):
        works.make_task(f"{pool}-{number}", pool)
    eventually_sync(lambda: entries(works, pool, acted=False, clamp="maxWorkers"), LONG, "the refusal")
    eventually_sync(lambda: status_of(works, pool).get("lag") == 6, LONG, "all tasks seen")
    (only,) = entries(works, pool, acted=False, clamp="maxWorkers")
    assert (only["from"], only["to"]) == (1, 1)
    assert "maxWorkers" in only["message"]


def test_shadow_mode_says_what_it_would_do_and_follows_only_somebody_elses_number(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"mode": "Shadow", "maxWorkers": 5})
    works.pool_is_ready(pool)
    for number in range(4):
        works.make_task(f"{pool}-{number}", pool)
    eventually_sync(lambda: status_of(works, pool).get("desired") == 4, LONG, "what it would do")
    assert works.deployment_replicas(pool) == 0
    assert status_of(works, pool)["mode"] == "Shadow"
    told = condition(works.kube.get("workerpools", pool), "Scaling")
    assert (told["reason"], told["status"]) == ("Shadow", "False")
    assert "need 4 workers" in told["message"]
    eventually_sync(lambda: entries(works, pool, to=4, acted=False), LONG, "the decision in the ledger")
    # KEDA, an HPA or a person: they all write the scale subresource.
    works.kube.kubectl("scale", f"workerpool/{pool}", "--replicas=2")
    works.scales_to(pool, 2)
    eventually_sync(lambda: status_of(works, pool).get("desired") == 4, LONG, "still what it would do")
    works.kube.kubectl("scale", f"workerpool/{pool}", "--replicas=1")
    works.scales_to(pool, 1)
    records = read_records(works, pool)
    assert records
    assert not any(record.acted for record in records)


def test_a_pool_paused_upwards_shrinks_and_does_not_grow(works: Works, pool: str) -> None:
    works.make_pool(pool, scaling={"minWorkers": 2, "maxWorkers": 5, "scaleDown": {"stabilization": "1s"}})
    works.scales_to(pool, 2)
    works.kube.patch("workerpools", pool, {"spec": {"scaling": {"pause": "Up", "minWorkers": 0, "idleAfter": "1s"}}})
    works.scales_to(pool, 0)
    works.make_task(f"{pool}-0", pool)
    eventually_sync(lambda: status_of(works, pool).get("lag") == 1, LONG, "the task seen")
    eventually_sync(
        lambda: "pause" in condition(works.kube.get("workerpools", pool), "Scaling").get("message", ""), LONG
    )
    assert works.deployment_replicas(pool) == 0
    works.kube.patch("workerpools", pool, {"spec": {"scaling": {"pause": "Down"}}})
    works.scales_to(pool, 1)
