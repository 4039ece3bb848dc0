"""One worker from start to end: connects, offers its slots, drains, releases, stops.

Owns the order of a worker's life and the meaning of drain and cancel; signals arrive here. Everything it does runs on
the main loop and never calls user code. It survives a broker that is not there yet (it keeps trying and says what it
waits for), one that restarts (everything is asked and claimed again), and a queue deleted and made anew.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from millpond_api import subjects
from millpond_api.catalogue import ANNOUNCE_EVERY
from millpond_api.envelope import Envelope
from millpond_api.events import NOT_RUNNING, CancelAsk, DrainAsk, RpcAnswer, utc_now
from millpond_api.fairness import has_lanes
from millpond_api.lifecycle import WorkerState
from millpond_api.messages import QueryAnswer, QueryAsk
from millpond_api.supervision import Flags
from millpond_api.supervision.pod import REASON
from millpond_api.wire import Wire

from millpond.access import redact_url
from millpond.app import App
from millpond.client import Client
from millpond.context import Context
from millpond.settings import Settings
from millpond.transport import Hooks, Transport, TransportError
from millpond.worker.announcer import AT_WORK, Announcer
from millpond.worker.board import Board, Running
from millpond.worker.calling import make_context
from millpond.worker.clients import SharedClient
from millpond.worker.conversation import Switchboard
from millpond.worker.crier import Crier
from millpond.worker.desk import Desk
from millpond.worker.discovery import Discovery
from millpond.worker.executors import Executors
from millpond.worker.health import serve_health
from millpond.worker.hosts import THREADS, Place
from millpond.worker.intake import Intake
from millpond.worker.journal import Journal, Pause
from millpond.worker.keeper import Keeper, KeeperPlan
from millpond.worker.limiter import Limiter, LimitHooks
from millpond.worker.offering import Offering, Slots, make_offering
from millpond.worker.rpc import Verbs, serve_rpc
from millpond.worker.shelf import Shelf
from millpond.worker.shop import Shop
from millpond.worker.supervising import Kin, Supervision

RECYCLING = "Recycling"
REMOTE_ANNOUNCE = 60.0
"""Seconds: a new template of the pool makes the operator forget what was announced. Its pods start and say it anew; a
remote worker does not start again for an image."""
RELEASE_TIMEOUT = 3.0
"""Seconds for giving back what runs, once the grace period is over: three requests to a server that answers."""
FLUSH_TIMEOUT = 2.0


class Worker:
    """The runtime of one process. `run` returns when it has stopped; `stop` is what a signal calls."""

    def __init__(self, settings: Settings, app: App, place: Place = THREADS) -> None:
        self.settings = settings
        self.board = Board(settings.concurrency, app.handlers.names(), utc_now(), remote=settings.remote)
        where = (settings.namespace, settings.pool, settings.worker)
        self._where, self._app = where, app
        self._log = structlog.get_logger("millpond.worker")
        plan = KeeperPlan(
            settings.nats_url, f"millpond {settings.worker}", subjects.beat(*where), settings.lease, settings.beat
        )
        self.keeper = Keeper(plan, self.board, place.make_host("millpond-keeper"))
        self.announcer = Announcer(self.board, subjects.worker_events(*where), self.keeper.poke)
        flags = Flags(intensity=settings.restart_intensity, period=settings.restart_period)
        self.supervision, self.family = Supervision(flags, self._on_gave_up), list[Kin]()
        self.executors = Executors(settings, self._on_lost, self.supervision, place)
        self._client = SharedClient(settings.nats_url, settings.namespace)
        self.verbs = Verbs()
        self.verbs.add("ping", Wire, self._ping)
        self.verbs.add("drain", DrainAsk, self._drain)
        self.verbs.add("cancel", CancelAsk, self._cancel)
        self.verbs.add("query", QueryAsk, self._query)
        self._why = ("Terminating", "the process was asked to stop")
        self.crier = Crier(where, app.handlers, REMOTE_ANNOUNCE if settings.remote else ANNOUNCE_EVERY)
        self._wake, self._stop, self._hurry, self._quiet = (asyncio.Event() for _ in range(4))
        self.intake: Intake | None = None
        self._shelf: Shelf | None = None
        self._limiter: Limiter | None = None
        self._switchboard: Switchboard | None = None
        self._last_error = ""
        self._offering: Offering | None = None
        self._loop_task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """The first call drains, the second releases at once."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def run(self) -> None:
        """Live until stopped."""
        async with contextlib.AsyncExitStack() as stack:
            await self.supervision.begin(self.family)
            stack.push_async_callback(self.supervision.stop)
            if self.settings.http_port:
                server = await serve_health(self.board, self.settings.http_port)
                stack.callback(server.close)
            _background(stack, self._tick())
            self.keeper.start()
            stack.push_async_callback(self.keeper.stop)
            self.executors.start(self._app.handlers)
            stack.push_async_callback(self.executors.stop)
            self.announcer.change(WorkerState.STARTING, "Started", f"handlers: {', '.join(self.board.handlers)}")
            life = asyncio.create_task(self._live(stack))
            stopped = asyncio.create_task(self._stop.wait())
            # Without a connection there is nothing to give back, so a stop need not wait for one.
            await asyncio.wait((life, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not life.done() and self.intake is None:
                life.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await life

    async def _live(self, stack: contextlib.AsyncExitStack) -> None:
        """Connected: start, serve, and leave in order."""
        transport = await self._connect()
        stack.push_async_callback(transport.close)
        _background(stack, self.announcer.run(transport))
        settings = self.settings
        journal = Journal(transport, settings.namespace, settings.pool, self._log, settings.letter_ttl)
        hooks = LimitHooks(self._make_cancel(transport), self._wake.set, self.board.note_limited)
        self._limiter = Limiter(journal, self.settings.limits, self._app.handlers, hooks)
        self._shelf = Shelf(self.board, journal.answer)
        _background(stack, self._shelf.run())
        self._switchboard = Switchboard(transport, self._where, partial(self.announcer.note, told=True), self._recycle)
        stack.push_async_callback(self._switchboard.close)
        shop = Shop(
            self.settings,
            self._app.handlers,
            self.board,
            journal,
            self.executors,
            self._make_context,
            self._limiter,
            self._shelf,
            self._app.lease_hooks,
            self._switchboard,
            self.announcer.note,
        )
        shop.desk = Desk(shop)
        shop.desk.add_verbs(self.verbs)
        self.intake = Intake(shop, self._on_change)
        await serve_rpc(transport, self._where, self.verbs)
        await Discovery(self._where, self.board, self.verbs.names).serve(transport)
        await self.crier.listen(transport, self._on_catalogue)
        self._app.handlers.listeners.append(self._on_registered)
        stack.callback(self._app.handlers.listeners.remove, self._on_registered)
        opening = asyncio.create_task(self._open_queue(transport, stack))
        await asyncio.wait((opening, asyncio.create_task(self._stop.wait())), return_when=asyncio.FIRST_COMPLETED)
        if opening.done() and not opening.cancelled():
            opening.result()
        opening.cancel()
        await self._stop.wait()
        await self._leave()

    async def _connect(self) -> Transport:
        waiting = _note_after(
            2.0, lambda: self._log.warning("waiting for NATS", url=redact_url(self.settings.nats_url))
        )
        try:
            hooks = Hooks(reconnected=self._on_reconnect, error=self._on_error)
            return await Transport.connect(self.settings.nats_url, f"millpond {self.settings.worker}", hooks=hooks)
        finally:
            waiting.cancel()

    async def _open_queue(self, transport: Transport, stack: contextlib.AsyncExitStack) -> None:
        """Wait until the pool's consumers are there, then offer the slots; until stopped."""
        stream = subjects.pool_stream(self.settings.namespace, self.settings.pool)
        known = [await self._await_consumer(transport, stream, name) for name in self.settings.classes]
        self.board.ready = True
        assert self.intake is not None
        if self.intake.draining:
            return
        slots = Slots(self.settings.concurrency, self._free, self._wake)
        self._offering = make_offering(transport, self.settings, slots, once_fair=any(map(has_lanes, known)))
        await self._offering.start(self.intake.take)
        self.announcer.change(WorkerState.IDLE, "Ready", "connected to the pool's queue")
        _background(stack, self.crier.run(transport))
        self._loop_task = asyncio.create_task(self._offering.run(), name="millpond-pulls")
        await self._loop_task

    def _make_cancel(self, transport: Transport) -> Callable[[str, str], Awaitable[object]]:
        """Cancelling as any client does it: by compare-and-set on the task's log, and a word to its worker."""
        client, pool = Client(transport, self.settings.namespace), self.settings.pool
        return lambda task, reason: client.handle(pool, task).cancel(reason)

    def _free(self) -> int:
        """Messages worth pulling now."""
        return self._limiter.room(self.intake.free) if self.intake and self._limiter else 0

    async def _await_consumer(self, transport: Transport, stream: str, task_class: str) -> dict[str, object]:
        """What the server says of the class's consumer, once it is there."""
        pause, said = Pause(0.1, 1.0), ""
        while True:
            try:
                return await transport.api(f"CONSUMER.INFO.{stream}.{subjects.consumer(task_class)}")
            except TransportError as error:
                if str(error) != said:
                    said = str(error)
                    self._log.warning("waiting for the pool's queue", stream=stream, task_class=task_class, why=said)
            await pause.wait()

    async def _leave(self) -> None:
        """Drain, finish within the grace period, release the rest, say Stopped."""
        assert self.intake is not None
        await self._stop_taking(*self._why)
        settled = asyncio.create_task(self.intake.settle())
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((settled, hurried), timeout=self.settings.grace, return_when=asyncio.FIRST_COMPLETED)
        if not settled.done():
            self._log.warning("giving back what still runs", tasks=self.intake.busy, hurried=self._hurry.is_set())
            self.intake.release()
            await asyncio.wait((settled,), timeout=RELEASE_TIMEOUT)
        left = self.intake.busy
        said = f"{left} tasks left behind" if left else ""
        if self.supervision.exceeded and self.board.state is not WorkerState.STOPPED:
            why = "; ".join(filter(None, (self.supervision.exceeded, said)))
            self.announcer.change(WorkerState.FAILED, REASON, why)
        else:
            self.announcer.change(WorkerState.STOPPED, "Terminated", said)
        if not await self.announcer.flush(FLUSH_TIMEOUT):
            self._log.warning("NATS did not take the last transitions in time")

    async def _stop_taking(self, reason: str, message: str) -> None:
        """For good: no new pulls, and when this returns nothing more arrives."""
        assert self.intake is not None
        self.announcer.change(WorkerState.DRAINING, reason, message) if self._takes_part else None
        self.intake.drain()
        if self._shelf:
            await self._shelf.empty()
        if self._loop_task:
            self._loop_task.cancel()
        if self._offering:
            await self._offering.stop()

    @property
    def _takes_part(self) -> bool:
        return self.board.state not in (WorkerState.DRAINING, WorkerState.STOPPED)

    async def _ping(self, ask: Wire) -> RpcAnswer:
        return self._answer()

    async def _drain(self, ask: DrainAsk) -> RpcAnswer:
        """Take nothing new. With `if_idle` only when nothing is in flight, otherwise nothing changes."""
        assert self.intake is not None
        if ask.if_idle and self._takes_part and self.board.in_flight:
            return self._answer(ok=False, message=f"{self.board.in_flight} tasks in flight")
        await self.leave("DrainRequested", "asked by RPC")
        return self._answer()

    async def leave(self, reason: str, message: str) -> None:
        """Take nothing new, from now on. A remote worker ends when nothing runs any more, however long that takes."""
        if self.intake is None:
            self._stop.set()
        elif self._takes_part:
            await self._stop_taking(reason, message)
            self._on_change()

    @property
    def why(self) -> str:
        """In one word why it stopped, once it was told to."""
        return self._why[0]

    async def _cancel(self, ask: CancelAsk) -> RpcAnswer:
        if self.intake is not None and self.intake.cancel(ask.task, hard=ask.hard):
            return self._answer()
        return self._answer(ok=False, code=NOT_RUNNING, message=f"task {ask.task[:128]!r} does not run here")

    async def _query(self, ask: QueryAsk) -> QueryAnswer:
        assert self.intake is not None
        return await self.intake.query(ask)

    def _recycle(self, reason: str) -> None:
        """A handler asks for a fresh start."""
        self._why = (RECYCLING, f"a handler asked for it: {reason}")
        self._stop.set()

    def _answer(self, *, ok: bool = True, code: str = "", message: str = "") -> RpcAnswer:
        state, in_flight = self.board.state, self.board.in_flight
        return RpcAnswer(ok=ok, code=code, message=message, state=state, in_flight=in_flight)

    def _on_change(self) -> None:
        """A slot was taken or freed."""
        intake = self.intake
        if intake is None:
            return
        state = self.board.state
        now = WorkerState.LEASED if intake.leased else WorkerState.BUSY if intake.busy else WorkerState.IDLE
        # Twice for every task: a worker that stays busy has nothing to announce.
        if state in AT_WORK:
            if state is not now:
                self.announcer.flip(now)
        elif state is WorkerState.DRAINING and intake.idle and not self._stop.is_set():
            # In a pod the process stays: Kubernetes ends it, and a container that ends by itself would start again.
            text = "nothing runs any more" if self.settings.remote else "nothing runs any more; waiting to be removed"
            self.announcer.change(WorkerState.STOPPED, "Drained", text)
            if self.settings.remote:
                self._stop.set()
        if intake.free:
            self._wake.set()

    def _on_registered(self) -> None:
        """A handler was added while we run, by whatever thread."""
        self.board.handlers = self._app.handlers.names()
        self.crier.changed()

    async def _on_catalogue(self, handlers: set[str]) -> None:
        """A worker of the pool, perhaps this one, has these handlers."""
        if self._shelf:
            await self._shelf.hear(handlers)

    def _on_reconnect(self) -> None:
        if self._offering:
            self._offering.reset()
        if self._shelf:
            self._shelf.forget()
        if self._switchboard:
            self._switchboard.wake()
        self._wake.set()
        self._last_error = ""
        self._log.info("connected to NATS again")

    def _on_error(self, error: Exception) -> None:
        """Say each trouble of the connection once: while NATS is away, the same one comes four times a second."""
        text = f"{type(error).__name__}: {error}"
        if text != self._last_error:
            self._last_error = text
            self._log.warning("trouble with the connection to NATS", why=text)

    def _make_context(self, envelope: Envelope, running: Running) -> Context:
        return make_context(envelope, running.control, self._client.connect)

    def _on_lost(self, lost: int) -> None:
        """A handler that could not be stopped was given up with its thread."""
        self._log.warning("a thread was lost to a handler that does not end", lost=lost)
        if lost >= self.settings.lost_slots:
            self._why = (RECYCLING, f"{lost} threads were lost to handlers that do not end; starting afresh")
            self._stop.set()

    def _on_gave_up(self, why: str) -> None:
        """The supervisor ends the child processes: what runs, there and elsewhere, is given back, and the pod ends."""
        self._log.error("too many child processes crashed; the worker ends", why=why)
        self._why = (REASON, why)
        if self.intake:
            self.intake.release()
        self._stop.set()
        self._hurry.set()

    async def _tick(self) -> None:
        while True:
            self.board.main_tick = time.monotonic()
            await asyncio.sleep(1.0)


def _background(stack: contextlib.AsyncExitStack, work: "asyncio._CoroutineLike[None]") -> None:
    """Run `work` until the stack is closed."""
    task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type]
    stack.callback(task.cancel)


def _note_after(seconds: float, say: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, say)
