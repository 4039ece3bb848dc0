"""The composition root: settings, doors, leadership, loops. `python -m millpond_operator.main`.

One process, one event loop. It waits for the Lease, then lists everything, starts the loops and lets kopf watch. When
any part ends (the Lease is lost, a loop fails for good), the process exits: the next leader starts from the statuses,
so there is nothing to clean up and nothing half done to trust. SIGTERM releases the Lease at once.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Coroutine
from typing import Any

import pydantic
import structlog
import uvloop
from millpond import transport as wire
from millpond.access import AccessError, read_access, redact_url
from millpond.transport import Hooks, Transport
from millpond_api import LABEL_POOL
from millpond_api.events import Beat, TaskEvent

from millpond_operator import metrics
from millpond_operator.broker import streams, workers
from millpond_operator.cluster.api import Api, ApiError, ApiUnreachable
from millpond_operator.cluster.cache import Cache
from millpond_operator.cluster.events import EventPoster
from millpond_operator.cluster.informer import Informer
from millpond_operator.cluster.keeping import keep_deployment, keep_pod, keep_pool, keep_worker
from millpond_operator.cluster.leader import Identity, Leader, LeadershipLost
from millpond_operator.cluster.writer import StatusWriter
from millpond_operator.cluster_key import PoolKey
from millpond_operator.handlers.evictions import EvictionGuard, keep_of_node
from millpond_operator.handlers.losses import LossTeller
from millpond_operator.handlers.pool_status import PoolStatuses
from millpond_operator.handlers.pools import PoolController
from millpond_operator.handlers.replicas import Replicas
from millpond_operator.handlers.rescuing import Rescuer
from millpond_operator.handlers.rollouts import RolloutController
from millpond_operator.handlers.scaler import Scaler
from millpond_operator.handlers.supervisors import SupervisorController
from millpond_operator.handlers.tasks import TaskController
from millpond_operator.handlers.watches import watch
from millpond_operator.handlers.workers import WorkerController
from millpond_operator.handlers.world import World
from millpond_operator.serving import Pulse, serve
from millpond_operator.settings import Settings

log = structlog.get_logger(__name__)


class Stopped(Exception):
    """SIGTERM or SIGINT: end in order."""


def configure_logging(log_format: str) -> None:
    """structlog on stderr; kopf and the libraries speak only from warnings on."""
    renderer = structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if log_format == "json" else structlog.dev.set_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    # kopf warns of every closed watch; they are opened again and healed by the resync.
    logging.getLogger("kopf._core.engines.peering").setLevel(logging.ERROR)


RECHECKED, RECHECK_PAUSE = 8, 0.05
"""Pools that the resync has looked at in one go, and the seconds until the next ones."""
COLLECT = (10_000, 20, 50)
"""When Python looks for cycles. What is kept of 20,000 workers is a million objects without any; with the default (700,
10, 10) every few ticks looked through all of them, which held up the loop."""


async def run(settings: Settings) -> None:
    """Everything, until told to stop or until the leadership is lost."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pulse = Pulse()
    async with await Api.connect(settings.kubeconfig) as api:
        holder = f"{settings.pod_name}_{uuid.uuid4().hex[:8]}"
        identity = Identity(holder, settings.pod_namespace, settings.lease_name, settings.lease_seconds)
        leader = Leader(api, identity)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_until(stop))
                group.create_task(pulse.run())
                group.create_task(serve(pulse, settings.http_host, settings.http_port))
                await leader.acquire()
                metrics.LEADER.set(1)
                group.create_task(leader.hold())
                group.create_task(lead(settings, api))
        except* Stopped:
            log.info("stopping: the Lease is released")
            await leader.release()


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()
    raise Stopped


async def lead(settings: Settings, api: Api) -> None:
    """What the leader does."""
    hooks = Hooks()
    log.info("connecting to NATS", url=redact_url(settings.nats_url))
    transport = await Transport.connect(settings.nats_url, f"millpond-operator {settings.pod_name}", hooks=hooks)
    world = make_world(settings, api, transport)
    statuses = PoolStatuses(world)
    replicas = Replicas(world, statuses.write)
    rollouts = RolloutController(world, replicas, statuses)
    pools = PoolController(world, rollouts)
    tasks = TaskController(world)
    hands = WorkerController(world, tasks)
    supervisors = SupervisorController(world, replicas)
    hands.on_crash.append(supervisors.hear)
    scaler = Scaler(world, pools, statuses)
    pools.on_queue_ready = [tasks.wake_pending, scaler.waker.call]
    nodes = Cache("nodes", keep=keep_of_node)
    guard = EvictionGuard(world, nodes)

    def hear_beat(pool: PoolKey, worker: str, beat: Beat) -> None:
        hands.on_beat(pool, worker, beat)
        if not settings.watch_namespace:
            guard.on_beat(pool, worker, beat)

    losses = LossTeller(world)

    def hear_task(pool: PoolKey, task_id: str, event: TaskEvent) -> None:
        tasks.projector.on_event(pool, task_id, event)
        losses.on_event(pool, task_id, event)

    await _ensure_shared(settings, transport)
    await workers.subscribe_beats(transport, hear_beat)
    await workers.subscribe_worker_events(transport, hands.on_event)
    await workers.subscribe_task_events(transport, hear_task)
    caches = [world.deployments, world.workers, world.pods]
    if not settings.watch_namespace:
        caches.append(nodes)
        rollouts.on_gone = guard.remove_budget
    informers = [Informer(api, cache) for cache in caches]
    await world.groups.resync(api)
    await world.pools.resync(api)
    await world.supervisors.resync(api)
    for informer in informers:
        await informer.start()
    await world.tasks.resync(api)
    log.info("listed", pools=len(world.pools.objects), tasks=len(world.tasks.objects), pods=len(world.pods.objects))
    tasks.projector.project_all()
    supervisors.restore()
    hands.heal()
    rollouts.look()

    def reconnected() -> None:
        log.info("NATS is back")
        asyncio.get_running_loop().create_task(_after_reconnect(settings, transport, pools, tasks))

    hooks.reconnected = reconnected
    await _together(
        watch([world.groups, world.pools, world.supervisors, world.tasks], settings.watch_namespace),
        *(informer.run() for informer in informers),
        pools.queue.run(),
        supervisors.queue.run(),
        rollouts.queue.run(),
        tasks.queue.run(),
        tasks.projector.queue.run(),
        hands.queue.run(),
        losses.queue.run(),
        guard.queue.run(),
        guard.run(),
        world.writer.run(),
        world.events.run(),
        scaler.run(),
        _watch_silence(hands),
        _resync(world, pools, Rescuer(world, tasks.projector), hands),
    )


def make_world(settings: Settings, api: Api, transport: Transport) -> World:
    """The doors and empty caches."""
    namespace = settings.watch_namespace
    return World(
        settings=settings,
        api=api,
        transport=transport,
        writer=StatusWriter(api),
        events=EventPoster(api, "millpond-operator"),
        pools=Cache("workerpools", namespace, keep=keep_pool),
        tasks=Cache("tasks", namespace),
        workers=Cache("workers", namespace, keep=keep_worker),
        pods=Cache("pods", namespace, LABEL_POOL, keep_pod),
        deployments=Cache("deployments", namespace, LABEL_POOL, keep_deployment),
        groups=Cache("poolgroups", namespace),
        supervisors=Cache("supervisors", namespace),
        started=time.monotonic(),
    )


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts; when one ends, for whatever reason, all end."""

    async def whole(part: Coroutine[Any, Any, None]) -> None:
        await part
        raise RuntimeError(f"{part!r} ended by itself")

    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(whole(part))


async def _ensure_shared(settings: Settings, transport: Transport) -> None:
    while True:
        try:
            await streams.ensure_shared(transport, settings.stream_storage, settings.stream_replicas)
        except wire.TransportError as error:
            log.warning("the shared streams could not be made; trying again", error=str(error))
            await asyncio.sleep(1)
        else:
            return


async def _after_reconnect(
    settings: Settings, transport: Transport, pools: PoolController, tasks: TaskController
) -> None:
    """NATS may have come back without what it had, and events may have been missed."""
    await _ensure_shared(settings, transport)
    pools.forget_queues()
    tasks.projector.project_all()


async def _watch_silence(hands: WorkerController) -> None:
    while True:
        await asyncio.sleep(1)
        hands.check_silence()


async def _resync(world: World, pools: PoolController, rescuer: Rescuer, hands: WorkerController) -> None:
    """List and compare what kopf watches now and then: heals what a watch or an event did not tell."""
    took = 0.0
    while True:
        # A large cluster on a slow API server is not listed again and again: at most a tenth of the time.
        await asyncio.sleep(max(world.settings.resync_seconds, 9 * took))
        began = time.monotonic()
        try:
            for cache in (world.groups, world.pools, world.supervisors, world.tasks):
                await cache.resync(world.api)
            for number, key in enumerate(world.pool_keys()):
                pools.queue.add(key)
                if number % RECHECKED == RECHECKED - 1:
                    # 1,000 pools at once would hold up a tick by a second.
                    await asyncio.sleep(RECHECK_PAUSE)
            pools.rollouts.look()
            hands.heal()
            await rescuer.heal()
            await pools.sweep()
        except (ApiError, ApiUnreachable, wire.TransportError) as error:
            log.warning("the resync was cut short; the next one goes on", error=str(error))
        # The pauses are no work: they must not make the next resync later.
        took = time.monotonic() - began - len(world.pool_keys()) // RECHECKED * RECHECK_PAUSE


def main() -> None:
    """Start; exit code 0 after a signal, 1 when leadership was lost or a part failed, 2 for wrong settings."""
    try:
        settings = Settings()
    except pydantic.ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            print(f"setting {name}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)
    try:
        read_access()
    except AccessError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    configure_logging(settings.log_format)
    gc.set_threshold(*COLLECT)
    if settings.kubeconfig:
        os.environ["KUBECONFIG"] = settings.kubeconfig  # kopf's login reads it from there
    code = 1
    try:
        uvloop.run(run(settings))
        code = 0
    except* LeadershipLost as group:
        log.error("leadership lost: exiting, so that only one operator acts", error=str(group.exceptions[0]))
    except* (ApiError, ApiUnreachable, RuntimeError) as group:
        log.error("a part of the operator failed: exiting to start again", error=repr(group.exceptions))
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    # Threads of libraries must not keep a process alive that has lost its leadership.
    os._exit(code)


if __name__ == "__main__":
    main()
