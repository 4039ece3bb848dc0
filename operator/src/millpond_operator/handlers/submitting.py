"""Sends Task objects to their queues: checked against the pool's catalogue, in their lanes, under their unique keys.

Owns what happens between the decision to submit and the stored message. It writes no status and ends nothing: `tasks`
does, by what this returns. It survives an operator that dies at any step: everything here may be done again, since a
submission is idempotent by task id and a unique key's lock by the task that it names.
"""

import asyncio
from dataclasses import replace
from datetime import datetime

from millpond.catalogues import Catalogues
from millpond.unique import Lock, Standing, UniqueSubmitter
from millpond_api import LABEL_VERSION

from millpond_operator.broker import tasks as broker
from millpond_operator.broker.tasks import Order
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.tasks import Asked, Do, Step, may_refuse
from millpond_operator.handlers.task_objects import TaskObject, make_order, make_unique
from millpond_operator.handlers.world import World
from millpond_operator.resources.deployment import make_deployment


class Submitter:
    """One step of a Task object, on the broker."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._catalogues: dict[str, Catalogues] = {}

    async def find_refusal(self, task: TaskObject) -> str:
        """Why the pool's workers would refuse the task's arguments; empty when they take them, or nobody knows."""
        if not task.spec.check_arguments:
            return ""
        namespace, spec = task.pool.namespace, task.spec
        known = self._catalogues.setdefault(namespace, Catalogues(self.world.transport, namespace))
        why = await known.find_refusal(spec.pool, spec.handler, spec.args, spec.kwargs)
        if not why or not await self._may_refuse(task.pool):
            return ""
        return f"{why} (a new Task with other arguments, or checkArguments: false, is submitted)"

    async def _may_refuse(self, key: PoolKey) -> bool:
        """Asks the API server itself how the pool stands: refusals are rare."""
        body, spec = self.world.pools.get(*key), self.world.spec(key)
        if body is None or spec is None:
            return False
        stored = await self.world.api.read("workerpools", *key)
        manifest = make_deployment(key, spec, self.world.settings.url_for_workers, 0)
        asked = Asked(
            manifest["metadata"]["labels"][LABEL_VERSION],
            body["metadata"]["generation"],
            stored["metadata"]["generation"] if stored else None,
        )
        return may_refuse(asked, self.world.versions.of(key))

    async def send(self, task: TaskObject, step: Step, now: datetime) -> Standing | None:
        """Store the task, for now or for its time. The task that it yields to, None when it stands itself.

        Raises `QueueFull` when the queue is at its bound and `StreamMissing` when it does not exist.
        """
        order = await self._into_lane(make_order(task.key, task.uid, task.spec, now))
        if not order.envelope.unique:
            await self._store(order, step)
            return None

        async def send_under(lock: Lock) -> None:
            update = {"id": lock.task, "object": lock.object}
            await self._store(replace(order, envelope=order.envelope.model_copy(update=update)), step)

        mine = Lock(task=task.uid, key=order.envelope.unique, object=task.key.name)
        locks = UniqueSubmitter(self.world.transport, *task.pool)
        standing = await locks.submit(mine, make_unique(task.spec), send_under)
        return None if standing.lock.task == task.uid else standing

    async def _store(self, order: Order, step: Step) -> None:
        if step.do is Do.SCHEDULE:
            await broker.schedule(self.world.transport, order, step.message)
        else:
            await broker.submit(self.world.transport, order)

    async def _into_lane(self, order: Order) -> Order:
        spec = self.world.spec(order.pool)
        lanes = spec.queue.fairness.lanes if spec and spec.queue.fairness else 0
        return await broker.into_lane(
            self.world.transport, order, self.world.lane_choices, lanes, asyncio.get_running_loop().time()
        )
