"""A task that kills its workers is quarantined, and beside its dead letter stands how they ended."""

from typing import Any, cast

import pytest
from millpond import TaskFailed
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.pods import Ended, PodFacts
from millpond_operator.handlers.losses import LossTeller, Quarantined
from millpond_operator.main import make_world
from millpond_operator.settings import Settings

from tests.support.workers import START, Mill


async def test_a_task_that_kills_its_workers_is_quarantined_with_their_ends_beside_it(mill: Mill) -> None:
    task = await mill.client.submit("mill", "die")
    for name in ("w1", "w2", "w3"):
        worker = mill.spawn(name)
        assert await worker.ended() == 9
    await mill.start("w4")
    with pytest.raises(TaskFailed, match=r"PoisonTask.*w1, w2, w3"):
        await task.result(timeout=START)
    assert (await mill.log_of(task.id))[-1].reason == "Poison"
    await mill.dead_letter(task.id)

    world = make_world(Settings(nats_url=mill.server.url), cast(Any, None), mill.client.transport)
    pool = PoolKey(mill.queue.namespace, "mill")
    for name, reason, code in (("w1", "OOMKilled", 137), ("w2", "Error", 9)):
        memory = world.remember_worker(pool, Key(pool.namespace, name))
        memory.pod = PodFacts(name, "uid", ended=Ended(reason, code, ""))
    for _ in range(2):
        await LossTeller(world).tell(Quarantined(pool, task.id))
    dead = mill.client.dead("mill")
    note = await dead.losses(await dead.read(task.id))
    assert note is not None
    assert [(one.worker, one.reason, one.exit_code) for one in note.workers] == [
        ("w1", "OOMKilled", 137),
        ("w2", "Error", 9),
        ("w3", "", None),
    ]
    assert [letter.task async for letter in dead.list()] == [task.id]
