"""Pools that share a ceiling: their sum never exceeds it, priorities hold, and the sentences say who gets what."""

import time
from collections.abc import Iterator

import pytest
from millpond_api import API_VERSION

from tests.support.eventually import eventually_sync
from tests.support.kube import Body, Refused, condition
from tests.support.works import LONG, Works, pool_manifest

LIMIT = 6


@pytest.fixture
def grouped(works: Works, pool: str) -> Iterator[Works]:
    """The shared namespace with a group of this test's own pools: those that bear its label."""
    make_group(works, pool, maxWorkers=LIMIT, selector={"matchLabels": {"test": pool}})
    yield works
    works.kube.delete("poolgroups", pool)


def make_group(works: Works, name: str, **spec: object) -> Body:
    manifest = {"apiVersion": API_VERSION, "kind": "PoolGroup", "metadata": {"name": name}, "spec": spec}
    return works.kube.create("poolgroups", manifest)


def make_member(works: Works, group: str, name: str, tasks: int, **scaling: object) -> str:
    """A pool of the group with that many tasks in its queue."""
    pool = f"{group}-{name}"
    manifest = pool_manifest(pool, scaling={"maxWorkers": 20, **scaling})
    # Of the group from its first moment: with a label that comes later it would be free until it is seen.
    manifest["metadata"]["labels"] = {"test": group}
    works.kube.create("workerpools", manifest)
    works.pool_is_ready(pool)
    for number in range(tasks):
        works.make_task(f"{pool}-{number}", pool)
    return pool


def total(works: Works, pools: list[str]) -> int:
    return sum(works.deployment_replicas(pool) or 0 for pool in pools)


def status_of(works: Works, plural: str, name: str) -> Body:
    found: Body = works.kube.get(plural, name).get("status") or {}
    return found


def test_the_sum_never_exceeds_the_ceiling_while_queues_ask_for_more(grouped: Works, pool: str) -> None:
    pools = [make_member(grouped, pool, name, tasks=0) for name in ("a", "b", "c")]
    eventually_sync(lambda: status_of(grouped, "poolgroups", pool).get("pools") == 3, LONG, "three pools in the group")
    for number in range(5):
        for one in pools:
            grouped.make_task(f"{one}-{number}", one)
    most, deadline = 0, time.monotonic() + LONG
    while total(grouped, pools) < LIMIT and time.monotonic() < deadline:
        most = max(most, total(grouped, pools))
    eventually_sync(lambda: status_of(grouped, "poolgroups", pool).get("desired") == 15, LONG, "what all need")
    most = max(most, total(grouped, pools))
    assert most == LIMIT
    # The queues grew at their own times, so the first to ask may have had more, for a moment.
    eventually_sync(lambda: [grouped.deployment_replicas(one) for one in pools] == [2, 2, 2], LONG, "equal shares")

    def says_who_gets_what() -> bool:
        limited = condition(grouped.kube.get("poolgroups", pool), "Limited")
        assert (limited["status"], limited["reason"]) == ("True", "MaxWorkers")
        return f"{pool}-a gets 2 of 5" in limited["message"]

    eventually_sync(says_who_gets_what, LONG, "the shares in the group's sentence")
    eventually_sync(
        lambda: pool in condition(grouped.kube.get("workerpools", pools[0]), "Scaling").get("message", ""),
        LONG,
        "the group in the pool's own sentence",
    )


def test_a_higher_priority_takes_what_a_lower_one_gives_back(grouped: Works, pool: str) -> None:
    down = {"idleAfter": "1s", "scaleDown": {"stabilization": "1s"}}
    low = make_member(grouped, pool, "low", tasks=6, minWorkers=1, **down)
    grouped.scales_to(low, LIMIT)
    high = make_member(grouped, pool, "high", tasks=4, priority=10, **down)
    grouped.scales_to(high, 4)
    assert total(grouped, [low, high]) <= LIMIT
    grouped.scales_to(low, 2)


def test_without_the_group_the_pool_gets_what_its_queue_needs(works: Works, pool: str) -> None:
    make_group(works, pool, maxWorkers=1, selector={"matchLabels": {"test": pool}})
    one = make_member(works, pool, "a", tasks=3)
    works.scales_to(one, 1)
    eventually_sync(lambda: status_of(works, "poolgroups", pool).get("desired") == 3, LONG, "the need in the group")
    works.kube.delete("poolgroups", pool)
    works.scales_to(one, 3)


def test_a_group_is_read_and_refused_in_words(grouped: Works, pool: str) -> None:
    with pytest.raises(Refused, match="maxWorkers"):
        make_group(grouped, f"{pool}-bad", maxWorkers=-1)
    said = grouped.kube.kubectl("explain", "poolgroup.spec")
    for word in ("maxWorkers", "selector", "busy worker is never stopped"):
        assert word in " ".join(said.split())
    shown = grouped.kube.kubectl("get", "wpg", pool, "-o", "wide")
    for column in ("MAX", "WORKERS", "DESIRED", "POOLS", "LIMITED", "MESSAGE"):
        assert column in shown
