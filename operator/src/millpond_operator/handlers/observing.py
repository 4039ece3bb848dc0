"""What a scaling decision is made from: one look at a pool's workers, queue and Deployment.

Owns the reading of what is remembered already; it asks no server and writes nothing. What is not known is None, never
zero: a silent worker makes the tasks in flight unknown, and the decision holds.
"""

import time

from millpond_scaling import ClassLoad, Observation, Policy

from millpond_operator.broker.streams import Reading
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.crowd import Crowd
from millpond_operator.handlers.forecasting import Forecaster
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.world import World


class Observer:
    """`observe` one pool."""

    def __init__(self, world: World, replicas: Replicas, forecaster: Forecaster) -> None:
        self.world = world
        self.replicas = replicas
        self.forecaster = forecaster

    def observe(self, key: PoolKey, policy: Policy, reading: Reading | None) -> Observation:
        """The pool now; `reading` is None when its queue could not be read."""
        crowd = self.world.crowd(key)
        measured = policy.latency is not None or policy.rate is not None
        if measured:
            self._measure(key, crowd)
        lag = None if reading is None else reading.lag + len(self.world.admitting.get(key, ()))
        wall = round(time.time(), 3)
        allowance, group = self.world.memory[key].allowance or (None, "")
        return Observation(
            lag=lag,
            in_flight=crowd.in_flight,
            current=self.replicas.current(key),
            wall=wall,
            ready=self._ready(key, crowd),
            arrived=None if reading is None else reading.arrived,
            service_seconds=self.world.memory[key].service.mean if measured else None,
            unschedulable=crowd.unschedulable,
            unschedulable_why=crowd.unschedulable_why,
            allowance=allowance,
            group=group,
            classes=self._classes(key) if policy.latency is not None else (),
            forecast=self.forecaster.foresee(key, wall),
            remote_slots=crowd.remote_slots,
            remote_in_flight=crowd.remote_in_flight,
            paused_by=self.world.pauses.get(key, ""),
        )

    def _classes(self, key: PoolKey) -> tuple[ClassLoad, ...]:
        """The queue by class, where it has several."""
        memory = self.world.memory[key]
        return tuple(
            ClassLoad(name, one.waiting, one.arrived, memory.class_service[name].mean)
            for name, one in sorted(memory.classes.items())
        )

    def _measure(self, key: PoolKey, crowd: Crowd) -> None:
        """Note how long tasks took, when a worker of the pool has said something new since the last look."""
        memory, now = self.world.memory[key], time.monotonic()
        if memory.measured is crowd:
            return
        memory.measured = crowd
        names: set[str] = set()
        for name, worker in (*self.world.workers_of(key), *self.world.remote_workers_of(key)):
            names.add(name.name)
            if worker.beat:
                beat, done = worker.beat, worker.beat.succeeded + worker.beat.failed
                memory.service.note((name.name, beat.incarnation), done, beat.service_seconds * done, now)
                for task_class, (ended, seconds) in beat.served.items():
                    memory.class_service[task_class].note((name.name, beat.incarnation), ended, seconds, now)
        for meter in (memory.service, *memory.class_service.values()):
            meter.keep(names)

    def _ready(self, key: PoolKey, crowd: Crowd) -> int | None:
        """Ready workers; None while a rollout's surge, which nobody asked for by scaling, is among them."""
        if self.world.rollout_of(key).workers is not None:
            return None
        return crowd.ready - self._leaving(key)

    def _leaving(self, key: PoolKey) -> int:
        """Drained workers whose place is taken away already: nobody's any more, though their pods still stand."""
        named = (Key(key.namespace, name) for name in self.world.memory[key].removed)
        pods = [self.world.worker_memory[name].pod for name in named if name in self.world.worker_memory]
        return sum(1 for pod in pods if pod is not None and pod.ready and not pod.going)
