"""Operators, NATS and the API server are killed while tasks run: every task ends once, and no status stays behind."""

import asyncio
import time
from collections.abc import Callable

import pytest
from millpond import Client
from millpond_cluster.api import Cluster

from tests.support import nats
from tests.support.eventually import eventually_sync
from tests.support.gate import Gate
from tests.support.nats import NatsServer
from tests.support.works import LEASE, LONG, Works, lose_data, show, stale

POOL = "mill"


def run_at_the_gate(works: Works, count: int, workers: int = 2) -> Gate:
    """That many tasks are running, and go on until the gate opens."""
    slots = count // workers
    works.make_pool(POOL, concurrency=slots)
    for number in range(workers):
        works.start_worker(POOL, f"w{number}", concurrency=slots)
    gate = works.gate("gate")
    for number in range(count):
        works.make_task(f"t{number}", POOL, "gate", [gate.path])
    gate.entered_sync(count)
    return gate


def assert_all_succeeded(works: Works, gate: Gate, count: int) -> None:
    tasks = works.all_reach("Succeeded", POOL, count)
    assert stale(tasks) == []
    assert all(task["status"]["attempts"] == 1 for task in tasks), "no attempt was charged for the fault"
    assert len({run.split()[1] for run in gate.runs()}) == count


def depth(works: Works) -> int:
    return asyncio.run(nats.queue_depth(works.server.url, works.namespace, POOL))


def test_sigkill_of_the_leader_while_200_tasks_run_loses_no_task_and_no_status(own_works: Works) -> None:
    seconds = 10
    leader = own_works.start_operator("operator-a", lease_seconds=seconds)
    heir = own_works.spawn_operator("operator-b", lease_seconds=seconds)
    gate = run_at_the_gate(own_works, 200)
    leader.kill9()
    began = time.monotonic()
    gate.open()
    heir.await_event("leading")
    show(f"takeover after SIGKILL of the leader: {time.monotonic() - began:.1f} s (Lease of {seconds} s)")
    assert_all_succeeded(own_works, gate, 200)


def test_sigterm_of_the_leader_hands_the_lease_over_at_once(own_works: Works) -> None:
    leader = own_works.start_operator("operator-a", lease_seconds=60)
    heir = own_works.spawn_operator("operator-b", lease_seconds=60)
    own_works.make_pool(POOL)
    own_works.pool_is_ready(POOL)
    assert leader.stop() == 0
    began = time.monotonic()
    # Far less than the Lease's 60 s, of which it would wait all if the Lease had not been released.
    heir.await_event("leading", timeout=45)
    show(f"takeover after SIGTERM of the leader: {time.monotonic() - began:.1f} s (Lease of 60 s)")


def test_a_leader_whose_lease_was_taken_exits_at_once(own_works: Works) -> None:
    leader = own_works.start_operator()
    own_works.kube.patch("leases", LEASE, {"spec": {"holderIdentity": "somebody-else"}})
    assert leader.ended() == 1
    assert leader.says("leadership lost")
    assert own_works.kube.get("leases", LEASE)["spec"]["holderIdentity"] == "somebody-else"


def test_a_second_operator_waits_and_writes_nothing(own_works: Works) -> None:
    own_works.start_operator("operator-a")
    second = own_works.spawn_operator("operator-b")
    own_works.make_pool(POOL)
    own_works.pool_is_ready(POOL)
    holder = own_works.kube.get("leases", LEASE)["spec"]["holderIdentity"]
    assert holder.startswith("operator-a_")
    assert not second.says("leading")


@pytest.mark.parametrize("hurt", [NatsServer.restart, lambda s: (s.kill9(), s.start())], ids=["restart", "sigkill"])
def test_nats_restarted_while_100_tasks_run_loses_no_task(
    own_works: Works, hurt: Callable[[NatsServer], object]
) -> None:
    own_works.start_operator()
    gate = run_at_the_gate(own_works, 100)
    hurt(own_works.server)
    gate.open()
    tasks = own_works.all_reach("Succeeded", POOL, 100)
    assert stale(tasks) == []
    eventually_sync(lambda: depth(own_works) == 0, LONG, "an empty queue", 0.2)


def test_the_api_server_restarted_while_100_tasks_run_leaves_no_status_stale(
    own_works: Works, restartable: Cluster
) -> None:
    # The Lease outlives the restart on a slow machine: that the same leader goes on is what is tested.
    operator = own_works.start_operator()
    gate = run_at_the_gate(own_works, 100)
    restartable.restart("kube-apiserver")
    gate.open()
    assert_all_succeeded(own_works, gate, 100)
    assert operator.popen.poll() is None


def test_tasks_that_end_while_no_operator_runs_get_their_status_at_its_start(own_works: Works) -> None:
    operator = own_works.start_operator("operator-a")
    gate = run_at_the_gate(own_works, 20)
    assert operator.stop() == 0
    gate.open()
    eventually_sync(lambda: depth(own_works) == 0, LONG, "an empty queue", 0.2)
    # Those that it had not come to by then have no status at all.
    assert any((task.get("status") or {}).get("phase") != "Succeeded" for task in own_works.tasks_of(POOL))
    own_works.start_operator("operator-b")
    assert_all_succeeded(own_works, gate, 20)


def test_tasks_made_while_no_operator_runs_are_submitted_at_its_start(own_works: Works) -> None:
    own_works.make_pool(POOL)
    for number in range(10):
        own_works.make_task(f"t{number}", POOL)
    own_works.start_worker(POOL)
    own_works.start_operator()
    assert stale(own_works.all_reach("Succeeded", POOL, 10)) == []


def test_a_task_that_ended_before_its_submission_was_written_gets_its_status_from_the_next_leader(
    own_works: Works,
) -> None:
    first = own_works.start_operator("operator-a")
    own_works.make_pool(POOL)
    own_works.pool_is_ready(POOL)
    own_works.start_worker(POOL)
    own_works.kill_leader(first)
    uid = own_works.make_task("t0", POOL)["metadata"]["uid"]

    async def submit_and_finish() -> None:
        # What a leader does that is killed between its publish and its write.
        async with Client.connect(own_works.server.url, namespace=own_works.namespace) as client:
            handle = await client.submit(POOL, "echo", ["done"], task_id=uid)
            await handle.result(LONG)

    asyncio.run(submit_and_finish())
    assert "status" not in own_works.task("t0")
    # The resync would heal it in any case: here it never comes.
    own_works.start_operator("operator-b", resync_seconds=3600)
    own_works.all_reach("Succeeded", POOL, 1)


def test_an_operator_killed_amid_200_submissions_submits_each_task_once(own_works: Works) -> None:
    first = own_works.start_operator("operator-a")
    own_works.make_pool(POOL, concurrency=50)
    own_works.pool_is_ready(POOL)
    gate = own_works.gate("gate")
    gate.open()
    for number in range(200):
        own_works.make_task(f"t{number}", POOL, "gate", [gate.path])
        if number == 100:
            own_works.kill_leader(first)
    own_works.start_operator("operator-b")
    own_works.start_worker(POOL, concurrency=50)
    assert_all_succeeded(own_works, gate, 200)
    assert len(gate.runs()) == 200


def test_queued_tasks_are_submitted_again_when_nats_has_lost_its_data(own_works: Works) -> None:
    own_works.start_operator(rescue_seconds=2, resync_seconds=2)
    own_works.make_pool(POOL)
    for number in range(5):
        own_works.make_task(f"t{number}", POOL)
    own_works.all_reach("Queued", POOL, 5)
    lose_data(own_works.server)
    own_works.start_worker(POOL)
    assert stale(own_works.all_reach("Succeeded", POOL, 5)) == []


def test_running_tasks_are_run_again_when_nats_has_lost_its_data(own_works: Works) -> None:
    own_works.start_operator(rescue_seconds=2, resync_seconds=2)
    # A log that is far along: the lost stream's numbers are higher than the new one's will be.
    own_works.make_pool("before", concurrency=10)
    own_works.start_worker("before", concurrency=10)
    for number in range(40):
        own_works.make_task(f"before{number}", "before")
    own_works.all_reach("Succeeded", "before", 40)
    gate = run_at_the_gate(own_works, 6)
    own_works.all_reach("Running", POOL, 6)
    lose_data(own_works.server)
    gate.open()
    assert stale(own_works.all_reach("Succeeded", POOL, 6)) == []
    assert stale(own_works.all_reach("Succeeded", "before", 40)) == []
