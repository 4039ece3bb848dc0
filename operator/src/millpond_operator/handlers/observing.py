"""What a scaling decision is made from: one look at a pool's workers, queue and Deployment, in one pass.

Owns the reading of what is remembered already; it asks no server and writes nothing. What is not known is None, never
zero: a silent worker makes the tasks in flight unknown, and the decision holds.
"""

import time
from dataclasses import dataclass

from millpond_scaling import Observation, Policy

from millpond_operator.broker.streams import Reading
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.workers import LOST_AFTER, WorkerMemory
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.world import World

SILENT_LONG = 30.0
"""A worker that is silent for longer counts as running nothing: its leases have ended."""


@dataclass
class _Sum:
    """What the workers of a pool add up to."""

    in_flight: int = 0
    ready: int = 0
    silent: int = 0
    unschedulable: int = 0
    why: str = ""


class Observer:
    """`observe` one pool."""

    def __init__(self, world: World, replicas: Replicas) -> None:
        self.world = world
        self.replicas = replicas

    def observe(self, key: PoolKey, policy: Policy, reading: Reading | None) -> Observation:
        """The pool now; `reading` is None when its queue could not be read."""
        total = self._sum(key, measured=policy.latency is not None)
        lag = None if reading is None else reading.lag + len(self.world.admitting.get(key, ()))
        return Observation(
            lag=lag,
            in_flight=None if total.silent else total.in_flight,
            current=self.replicas.current(key),
            wall=round(time.time(), 3),
            ready=total.ready,
            arrived=None if reading is None else reading.arrived,
            service_seconds=self.world.memory[key].service.mean if policy.latency is not None else None,
            unschedulable=total.unschedulable,
            unschedulable_why=total.why,
        )

    def _sum(self, key: PoolKey, *, measured: bool) -> _Sum:
        now, total = time.monotonic(), _Sum()
        memory = self.world.memory[key]
        service, leaving = memory.service, memory.removed
        names: set[str] = set()
        for name, worker in self.world.workers_of(key):
            self._add(worker, total, now, leaving=name.name in leaving)
            if measured:
                names.add(name.name)
                if worker.beat:
                    beat, done = worker.beat, worker.beat.succeeded + worker.beat.failed
                    service.note((name.name, beat.incarnation), done, beat.service_seconds * done, now)
        if measured:
            service.keep(names)
        return total

    def _add(self, worker: WorkerMemory, total: _Sum, now: float, *, leaving: bool) -> None:
        pod = worker.pod
        assert pod is not None
        silent = now - (worker.heard or self.world.started)
        serving = pod.ready and not pod.going
        # A drained worker whose place is taken away already is nobody's any more, though its pod still stands.
        total.ready += serving and not leaving
        if worker.beat and silent <= LOST_AFTER:
            total.in_flight += len(worker.beat.in_flight)
        elif serving and silent <= SILENT_LONG:
            total.silent += 1
        if pod.trouble and pod.trouble[0] == "Unschedulable" and not pod.going:
            total.unschedulable += 1
            total.why = total.why or pod.trouble[1]
