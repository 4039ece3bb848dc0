"""What the loops share: the doors, the caches, and the operator's memory of each pool.

Owns no behaviour: one place where the composition root puts what it made, so that a loop takes one argument instead of
ten. Memory here may be lost at any time (a new leader starts with none): everything that must last stands in a status.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from millpond.transport import Transport
from millpond_api import ANNOTATION_RESTART, LABEL_POOL
from millpond_api.fairness import LaneChoices
from millpond_api.remote import PoolSettings
from millpond_api.v1alpha1 import WorkerPoolSpec, WorkerPoolStatus, WorkerStatus
from millpond_api.v1alpha1.rollout import RolloutStatus
from millpond_api.v1alpha1.workerpool import Decision as LedgerEntry
from millpond_scaling import Decision, Memory, Policy, check_schedules, make_policy

from millpond_operator.broker.classes import ClassCounts, ClassReading
from millpond_operator.cluster.api import Api
from millpond_operator.cluster.cache import Body, Cache, Key
from millpond_operator.cluster.events import EventPoster, News
from millpond_operator.cluster.keeping import pack, unpack
from millpond_operator.cluster.writer import StatusWriter
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.crowd import Crowd, make_crowd
from millpond_operator.decisions.ledger import Recorded
from millpond_operator.decisions.service import ServiceMeter
from millpond_operator.decisions.workers import Silence, WorkerMemory
from millpond_operator.handlers.versions import Versions
from millpond_operator.settings import Settings

LEDGER_LENGTH = 20


@dataclass
class PoolMemory:
    """What is remembered of a pool between two looks."""

    spec: WorkerPoolSpec | None = None
    spec_of: tuple[str, int] = ("", -1)
    """The uid and generation that `spec` was read from: a pool made again begins at generation 1 too."""
    policy: Policy | None = None
    mistakes: tuple[str, ...] = ()
    """What is wrong with the spec's schedules, a sentence each."""
    queue_ready: bool = False
    queue_digest: str = ""
    queue_error: str = ""
    told: PoolSettings | None = None
    """What its remote workers were told last."""
    lag: int | None = None
    decision: Decision | None = None
    order: Decision | None = None
    """What is carried out: the decision, but for shadow mode."""
    looked: float = 0.0
    forecast: str = ""
    """How the pool's forecast stands, in one sentence; empty without one."""
    allowance: tuple[int, str] | None = None
    """The most workers that the pool's PoolGroup leaves to it, and the group's name."""
    service: ServiceMeter = field(default_factory=ServiceMeter)
    class_service: dict[str, ServiceMeter] = field(default_factory=lambda: defaultdict(ServiceMeter))
    classes: dict[str, ClassReading] = field(default_factory=dict)
    """The queue by class as of the last tick, for pools whose decisions need it."""
    class_counts: ClassCounts = field(default_factory=ClassCounts)
    measured: Crowd | None = None
    """The workers as `service` has noted them."""
    scaling: Memory = field(default_factory=Memory)
    ledger: list[LedgerEntry] | None = None
    recorded: Recorded | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    first_enqueued: float | None = None
    """When the task was enqueued that was heard of first since the last decision."""
    removed: dict[str, float] = field(default_factory=dict)
    """Workers that were drained for removal, and when: their pods are about to go."""
    version: str = ""
    """The version of the template that has the say: the spec's, or the one that a rollout went back to."""
    rollout: RolloutStatus | None = None
    """The rollout under way or the last one; stands in the status too."""
    attempts: dict[tuple[str, str], tuple[str, int, int]] = field(default_factory=dict)
    """During a canary, by worker and incarnation: its version, and attempts that succeeded and failed on it."""
    held: str = ""
    trouble_told: str = ""
    shown: tuple[Any, ...] = ()
    """What the last status was made from: the same again is not made again."""


class KnownStatus(NamedTuple):
    """A Worker's status, packed."""

    state: str
    packed: bytes

    def parse(self) -> WorkerStatus:
        return WorkerStatus.model_validate_json(unpack(self.packed))


def pack_status(status: dict[str, Any]) -> KnownStatus:
    """The manifest of a status, to be remembered."""
    return KnownStatus(sys.intern(str(status.get("state", ""))), pack(status))


@dataclass
class World:
    """Everything that the loops work with."""

    settings: Settings
    api: Api
    transport: Transport
    writer: StatusWriter
    events: EventPoster
    pools: Cache
    tasks: Cache
    workers: Cache
    pods: Cache
    deployments: Cache
    groups: Cache
    supervisors: Cache
    memory: dict[PoolKey, PoolMemory] = field(default_factory=lambda: defaultdict(PoolMemory))
    worker_memory: dict[Key, WorkerMemory] = field(default_factory=dict)
    worker_pools: dict[Key, PoolKey] = field(default_factory=dict)
    pool_workers: dict[PoolKey, set[Key]] = field(default_factory=lambda: defaultdict(set))
    worker_status: dict[Key, KnownStatus] = field(default_factory=dict)
    """What was last decided of a worker, written or not."""
    worker_objects: dict[PoolKey, set[Key]] = field(default_factory=lambda: defaultdict(set))
    """The Worker objects of each pool, with and without a pod."""
    crowds: dict[PoolKey, Crowd] = field(default_factory=dict)
    phases: dict[PoolKey, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    admitting: dict[PoolKey, set[Key]] = field(default_factory=lambda: defaultdict(set))
    """Task objects that were seen and not looked at yet: they are lag already, though no queue holds them."""
    submitted: dict[str, datetime] = field(default_factory=dict)
    """Uids of Tasks that this process put into a queue, and when, until their statuses say so."""
    lane_choices: LaneChoices = field(default_factory=LaneChoices)
    """Where Task objects with a fairness key wait in their classes."""
    pauses: dict[PoolKey, str] = field(default_factory=dict)
    """Pools that a supervisor holds at zero, each with the sentence that says so."""
    started: float = 0.0

    def __post_init__(self) -> None:
        self.versions = Versions(self.deployments)

    def pool_keys(self) -> list[PoolKey]:
        return [PoolKey(*key) for key in self.pools.objects]

    def spec(self, key: PoolKey) -> WorkerPoolSpec | None:
        """The pool's spec, parsed once a generation; None when there is no such pool."""
        body = self.pools.get(*key)
        if body is None:
            return None
        memory = self.memory[key]
        source = (body["metadata"]["uid"], body["metadata"].get("generation", 0))
        if memory.spec is None or memory.spec_of != source:
            memory.spec = WorkerPoolSpec.model_validate(body["spec"])
            memory.spec_of, memory.policy = source, None
        return memory.spec

    def policy(self, key: PoolKey) -> Policy | None:
        """The spec as scaling decisions need it, made once a generation; None when there is no such pool."""
        spec = self.spec(key)
        if spec is None:
            return None
        memory = self.memory[key]
        if memory.policy is None:
            memory.policy, memory.mistakes = make_policy(spec), tuple(check_schedules(spec))
        return memory.policy

    def restart_of(self, key: PoolKey) -> str:
        """The pool's last restart that was asked for, by whomever; empty without one."""
        annotations = (self.pools.get(*key) or {}).get("metadata", {}).get("annotations") or {}
        return str(annotations.get(ANNOTATION_RESTART, ""))

    def workers_asked(self, key: PoolKey) -> int | None:
        """How many workers scaling has asked for; None when the pool has no Deployment yet.

        During a rollout there are more in the Deployments of both versions together: that surge is not counted.
        """
        if not self.versions.of(key):
            return None
        asked = self.rollout_of(key).workers
        return self.versions.total(key) if asked is None else asked

    def rollout_of(self, key: PoolKey) -> RolloutStatus:
        """The pool's rollout: as this process moved it, or as the last leader left it in the status."""
        memory = self.memory[key]
        if memory.rollout is None:
            memory.rollout = self.status_of(key).rollout
        return memory.rollout

    def workers_of(self, key: PoolKey) -> Iterator[tuple[Key, WorkerMemory]]:
        """The pool's workers that have a pod."""
        for name in tuple(self.pool_workers.get(key, ())):
            memory = self.worker_memory[name]
            if memory.pod is not None and not memory.gone:
                yield name, memory

    def remote_workers_of(self, key: PoolKey) -> Iterator[tuple[Key, WorkerMemory]]:
        """The pool's workers outside the cluster."""
        for name in tuple(self.pool_workers.get(key, ())):
            memory = self.worker_memory[name]
            if memory.is_remote and not memory.gone:
                yield name, memory

    def is_served_from_outside(self, key: PoolKey) -> bool:
        """Whether a remote worker still runs tasks of the pool, as far as it is heard of."""
        workers = (memory for _, memory in self.remote_workers_of(key))
        return any(one.silence is Silence.NONE and one.beat is not None and one.beat.in_flight for one in workers)

    def crowd(self, key: PoolKey) -> Crowd:
        """The pool's workers in one record, made anew only when one of them has changed."""
        known = self.crowds.get(key)
        if known is None:
            pods = ((name.name, worker) for name, worker in self.workers_of(key))
            known = self.crowds[key] = make_crowd(pods, (worker for _, worker in self.remote_workers_of(key)))
        return known

    def touch(self, key: PoolKey) -> None:
        """One of the pool's workers has changed."""
        self.crowds.pop(key, None)

    def remember_worker(self, key: PoolKey, name: Key) -> WorkerMemory:
        """The worker's memory, begun when it is first heard of."""
        if name not in self.worker_memory:
            self.worker_memory[name] = WorkerMemory()
            self.worker_pools[name] = key
            self.pool_workers[key].add(name)
            self.touch(key)
        return self.worker_memory[name]

    def forget_worker(self, name: Key) -> None:
        """The worker is over; its object stays readable."""
        self.worker_memory.pop(name, None)
        key = self.worker_pools.pop(name, None)
        if key is not None:
            self.pool_workers[key].discard(name)
            self.touch(key)

    def status_of(self, key: PoolKey) -> WorkerPoolStatus:
        """The pool's status as it was last seen."""
        packed = (self.pools.get(*key) or {}).get("packedStatus")
        return WorkerPoolStatus.model_validate_json(unpack(packed)) if packed else WorkerPoolStatus()

    def tell(self, body: Body, kind: str, reason: str, message: str, *, warning: bool = False) -> None:
        """Post an Event about an object."""
        meta = body["metadata"]
        news = News(
            kind,
            meta["namespace"],
            meta["name"],
            meta["uid"],
            "Warning" if warning else "Normal",
            reason.replace(" ", "")[:128],
            message,
        )
        self.events.post(news)


def pool_of(pod: dict[str, Any]) -> PoolKey | None:
    """The pool that a pod belongs to, by its label."""
    name = pod["metadata"].get("labels", {}).get(LABEL_POOL)
    return PoolKey(pod["metadata"]["namespace"], name) if name else None
