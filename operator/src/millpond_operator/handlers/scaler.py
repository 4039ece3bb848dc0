"""The scaling loop: reads all queues each tick, wakes pools at zero by push, and applies what `decide` says.

Growing is one patch of the scale subresource. Shrinking is drain first: the chosen workers say that they run nothing
and take nothing more, their pods are marked as the cheapest to delete, then the replicas are lowered by exactly their
number. A leader that dies in between leaves drained workers behind; the next one finds and removes them first.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime

import structlog
from millpond import transport as wire
from millpond.transport import Message
from millpond_api import subjects
from millpond_api.durations import parse_duration
from millpond_api.envelope import MalformedTask, parse_envelope
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_api.v1alpha1.workerpool import Decision as LedgerEntry

from millpond_operator import metrics
from millpond_operator.broker import streams, workers
from millpond_operator.cluster.api import ApiError, ApiUnreachable, path
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.scaling import Decision, Observation, Policy, decide
from millpond_operator.decisions.shrink import Candidate, Step, decide_victims
from millpond_operator.decisions.workers import LOST_AFTER, WorkerMemory
from millpond_operator.handlers.pools import PoolController
from millpond_operator.handlers.world import LEDGER_LENGTH, World
from millpond_operator.resources.deployment import deployment_name

log = structlog.get_logger(__name__)

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
WAKE_GATHER = 0.01
"""Seconds between a wake and reading the lag: the rest of a burst is usually there by then."""
SILENT_LONG = 30.0
"""A worker that is silent for longer counts as running nothing: its leases have ended."""
REMOVAL_PATIENCE = 20.0
"""A drained worker whose pod is still there after this was not the one that the ReplicaSet removed."""


class Scaler:
    """`run` ticks; `kick` looks at one pool at once."""

    def __init__(self, world: World, pools: PoolController) -> None:
        self.world = world
        self.pools = pools
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            began = time.monotonic()
            await self.tick()
            metrics.TICK_SECONDS.observe(time.monotonic() - began)
            await asyncio.sleep(max(0.05, self.world.settings.tick_seconds - (time.monotonic() - began)))

    async def tick(self) -> None:
        """Look at every pool once, with one reading of all queues."""
        try:
            lags: dict[PoolKey, int] | None = await streams.read_lags(self.world.transport)
        except wire.TransportError as error:
            log.warning("the queues could not be read: nothing is scaled", error=str(error))
            lags = None
        for key in self.world.pool_keys():
            if lags is not None and self.world.memory[key].queue_ready and key not in lags:
                # The stream is gone from under us: made again, and until then its lag is unknown.
                self.world.memory[key].queue_ready = False
                self.pools.queue.add(key)
            self.step(key, lags.get(key) if lags is not None else None)

    def step(self, key: PoolKey, lag: int | None) -> None:
        """Decide for one pool; what is to be done is done in the background, one change at a time."""
        spec = self.world.spec(key)
        if spec is None:
            return
        memory = self.world.memory[key]
        if lag is not None:
            lag += len(self.world.admitting.get(key, ()))
        memory.lag = lag
        decision = decide(self._observe(key, lag), make_policy(spec), memory.scaling, time.monotonic())
        memory.scaling, memory.decision = decision.memory, decision
        metrics.observe_pool(key, lag or 0, decision.current, decision.target)
        if not memory.lock.locked():
            if decision.target > decision.current:
                self._spawn(self._grow(key, decision))
            elif decision.changes or self._leftovers(key):
                self._spawn(self._shrink(key, decision, spec))
            else:
                memory.held = ""
        self._mind_wake(key, spec, decision)
        self.pools.write_status(key)

    def _observe(self, key: PoolKey, lag: int | None) -> Observation:
        deployment = self.world.deployment(key)
        current = deployment["spec"].get("replicas", 0) if deployment else None
        now, total = time.monotonic(), 0
        for _, worker in self.world.workers_of(key):
            assert worker.pod is not None
            silent = now - (worker.heard or self.world.started)
            if worker.beat and silent <= LOST_AFTER:
                total += len(worker.beat.in_flight)
            elif worker.pod.ready and not worker.pod.going and silent <= SILENT_LONG:
                return Observation(lag, None, current)
        return Observation(lag, total, current)

    # ---- growing

    async def _grow(self, key: PoolKey, decision: Decision) -> None:
        memory = self.world.memory[key]
        async with memory.lock:
            if not await self._scale(key, decision.target):
                return
            delay = None
            if decision.current == 0 and memory.first_enqueued is not None:
                delay = max(0.0, (time.time() - memory.first_enqueued) * 1000)
                metrics.WAKE_SECONDS.observe(delay / 1000)
            memory.first_enqueued = None
            self._record(key, decision, decision.target, delay)

    async def _scale(self, key: PoolKey, replicas: int) -> bool:
        """Set the replicas; what the API server answered is what the next decision sees."""
        name = deployment_name(key.pool)
        try:
            answer = await self.world.api.merge(
                path("deployments", key.namespace, name, "scale"), {"spec": {"replicas": replicas}}
            )
        except (ApiError, ApiUnreachable) as error:
            log.warning("the Deployment could not be scaled; trying again", pool=str(key), error=str(error))
            return False
        known = self.world.deployment(key)
        if known is not None:
            meta = known["metadata"] | {"resourceVersion": answer["metadata"]["resourceVersion"]}
            body = {**known, "metadata": meta, "spec": {**known["spec"], "replicas": replicas}}
            self.world.deployments.observe(None, body)
        return True

    def _record(self, key: PoolKey, decision: Decision, target: int, delay: float | None = None) -> None:
        """One sentence for log, Event and ledger."""
        memory, body = self.world.memory[key], self.world.pools.get(*key)
        inputs = dict(decision.inputs) | ({"wakeDelayMs": round(delay, 1)} if delay is not None else {})
        entry = LedgerEntry(
            at=datetime.now(UTC),
            source=decision.current,
            target=target,
            reason=decision.reason,
            message=decision.message,
            inputs=inputs,
        )
        memory.ledger = [entry, *(memory.ledger or [])][:LEDGER_LENGTH]
        log.info("scaled", pool=str(key), source=decision.current, target=target, why=decision.message, **inputs)
        metrics.DECISIONS.labels(key.namespace, key.pool, decision.reason).inc()
        if body is not None:
            text = f"{decision.current} → {target}: {decision.message}"
            self.world.tell(body, "WorkerPool", decision.reason, text)
        self.pools.write_status(key)

    # ---- waking from zero

    def _mind_wake(self, key: PoolKey, spec: WorkerPoolSpec, decision: Decision) -> None:
        """Listen to the queue of a pool at zero, and stop listening when it is up."""
        memory = self.world.memory[key]
        asleep = decision.current == 0 and decision.target == 0 and self.world.settings.push_wake
        wanted = asleep and spec.replicas is None and not spec.scaling.paused and memory.queue_ready
        if wanted and memory.wake is None and not memory.waking:
            memory.waking = True
            self._spawn(self._listen(key))
        elif not wanted and decision.current > 0 and memory.wake is not None:
            subscription, memory.wake = memory.wake, None
            self._spawn(subscription.close())

    async def _listen(self, key: PoolKey) -> None:
        memory = self.world.memory[key]
        pending: list[asyncio.Task[None]] = []

        def hear(message: Message) -> None:
            if memory.first_enqueued is None:
                with contextlib.suppress(MalformedTask):
                    envelope = parse_envelope(message.headers.get(subjects.HEADER_ENVELOPE))
                    memory.first_enqueued = envelope.enqueued.timestamp()
            if not pending or pending[-1].done():
                pending.append(self._spawn(self._wake(key)))
                del pending[:-1]

        try:
            memory.wake = await workers.subscribe_wake(self.world.transport, key, hear)
        finally:
            memory.waking = False
        # What was stored before the subscription existed woke nobody.
        await self._wake(key)

    async def _wake(self, key: PoolKey) -> None:
        await asyncio.sleep(WAKE_GATHER)
        with contextlib.suppress(wire.TransportError):
            lag = await streams.read_lag(self.world.transport, key)
            if lag:
                self.step(key, lag)

    # ---- shrinking

    def _candidates(self, key: PoolKey) -> list[Candidate]:
        now = time.monotonic()
        memory = self.world.memory[key]
        for name in [n for n, at in memory.removed.items() if now - at > REMOVAL_PATIENCE]:
            log.warning("another pod was removed than the drained one", pool=str(key), worker=name)
            del memory.removed[name]
        return [_candidate(name, worker, now, memory.removed) for name, worker in self.world.workers_of(key)]

    def _leftovers(self, key: PoolKey) -> bool:
        """Whether a drained worker holds a place that nobody is about to remove."""
        return any(_is_drained(candidate) for candidate in self._candidates(key))

    async def _shrink(self, key: PoolKey, decision: Decision, spec: WorkerPoolSpec) -> None:
        memory = self.world.memory[key]
        async with memory.lock:
            surplus = decision.current - decision.target
            candidates = self._candidates(key)
            if surplus == 0:
                await self._recycle(key, candidates)
                return
            forced = spec.replicas is not None or decision.current > spec.scaling.max_workers
            plan = decide_victims(candidates, surplus, forced=forced)
            memory.held = plan.held
            missing = decision.current - len(candidates)
            victims = await self._drain(key, plan.steps, "ManualScale" if spec.replicas is not None else "ScaleDown")
            if missing > 0 and not candidates:
                # Replicas without a pod (none could be made): they go without a drain.
                await self._lower(key, decision, surplus, [])
            elif victims:
                await self._lower(key, decision, len(victims), victims)

    async def _drain(self, key: PoolKey, steps: tuple[tuple[str, Step], ...], reason: str) -> list[str]:
        """Ask the chosen workers; the names of those that run nothing and take nothing more."""

        async def ask(name: str, step: Step) -> str | None:
            memory = self.world.worker_memory.get(Key(key.namespace, name))
            if memory is None:
                return None
            if step is not Step.RETIRE:
                answer = await workers.drain(self.world.transport, key, name, if_idle=step is Step.ASK)
                if answer is None or not answer.ok or answer.in_flight:
                    if answer is not None and answer.ok:
                        memory.retired = reason
                    return None
            memory.retired = reason
            return name

        answers = await asyncio.gather(*(ask(name, step) for name, step in steps))
        return [name for name in answers if name is not None]

    async def _lower(self, key: PoolKey, decision: Decision, count: int, victims: list[str]) -> None:
        """Mark the victims' pods as the cheapest to delete and lower the replicas by their number."""
        memory = self.world.memory[key]

        async def mark(name: str) -> None:
            patch = {"metadata": {"annotations": {DELETION_COST: "-1000"}}}
            await self.world.api.merge(path("pods", key.namespace, name), patch)

        try:
            await asyncio.gather(*(mark(name) for name in victims))
        except (ApiError, ApiUnreachable) as error:
            log.warning("a pod could not be marked; trying again", pool=str(key), error=str(error))
            return
        if await self._scale(key, decision.current - count):
            now = time.monotonic()
            memory.removed |= dict.fromkeys(victims, now)
            self._record(key, decision, decision.current - count)

    async def _recycle(self, key: PoolKey, candidates: list[Candidate]) -> None:
        """Replace a drained worker that is needed after all: its pod is deleted, the ReplicaSet makes another."""
        for candidate in candidates:
            if _is_drained(candidate):
                worker = self.world.worker_memory[Key(key.namespace, candidate.name)]
                worker.retired = "Recycled"
                assert worker.pod is not None
                await self.world.api.delete("pods", key.namespace, candidate.name, worker.pod.uid)
                self.world.memory[key].removed[candidate.name] = time.monotonic()
                log.info("a drained worker is replaced", pool=str(key), worker=candidate.name)

    def _spawn(self, work: object) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work  # type: ignore[misc]
            except Exception as error:  # the next tick decides again from what is there
                log.warning("a scaling step failed; the next tick tries again", error=repr(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def make_policy(spec: WorkerPoolSpec) -> Policy:
    """The spec as the decision needs it."""
    scaling = spec.scaling
    return Policy(
        min_workers=scaling.min_workers,
        max_workers=scaling.max_workers,
        slots=spec.concurrency,
        lag_per_slot=scaling.target.lag_per_slot,
        stabilization=parse_duration(scaling.scale_down.stabilization),
        idle_after=parse_duration(scaling.idle_after),
        paused=scaling.paused,
        manual=spec.replicas,
    )


def _candidate(name: Key, worker: WorkerMemory, now: float, removed: dict[str, float]) -> Candidate:
    assert worker.pod is not None
    beat, pod = worker.beat, worker.pod
    return Candidate(
        name=name.name,
        state=beat.state if beat else "Starting",
        in_flight=len(beat.in_flight) if beat else 0,
        started=pod.started,
        fresh=now - worker.heard <= LOST_AFTER,
        stuck=pod.trouble is not None and not pod.ready,
        going=pod.going or name.name in removed,
    )


def _is_drained(candidate: Candidate) -> bool:
    ended = candidate.state in ("Draining", "Stopped") and candidate.in_flight == 0
    return ended and candidate.fresh and not candidate.going
