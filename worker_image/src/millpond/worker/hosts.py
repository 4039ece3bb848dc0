"""Where the parts of a worker run: on threads of their own, or all together on the loop that runs already.

Owns the event loops and threads of the lease keeper and of the async handlers, and nothing of what runs on them. A
worker process takes `THREADS`: a handler that blocks its loop or a busy main loop must not stop the others. A test with
virtual time (`millpond.testing`) takes `LoopHost`s: time can only be jumped over where one loop knows all that waits.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
import uvloop

Main = Callable[[], Coroutine[Any, Any, None]]


class Host(Protocol):
    """An event loop for one part of the worker."""

    def start(self, main: Main | None = None) -> None:
        """Begin to run (`main`, if given). Called once, in the worker's main loop."""

    def post(self, call: Callable[[], None]) -> None:
        """Have the loop call it; from any thread. Dropped when the loop is closed."""

    async def join(self, timeout: float) -> None:
        """Until `main` has ended, at most `timeout` seconds; a loop without one is told to stop."""


class Mailbox:
    """Calls into an event loop from other threads; many posts cost one wake-up of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def post(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        # Set before the loop is woken, cleared before it reads: no post can fall between two readings.
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                # The loop is closed: the process ends, and what an abandoned handler returns reaches nobody.
                self._scheduled = False

    def _deliver(self) -> None:
        self._scheduled = False
        while self._calls:
            self._calls.popleft()()


class ThreadHost:
    """A loop on a daemon thread: one that hangs does not keep the process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = uvloop.new_event_loop()
        self._mailbox = Mailbox(self._loop)
        self._main: Main | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self, main: Main | None = None) -> None:
        self._main = main
        self._thread.start()

    def post(self, call: Callable[[], None]) -> None:
        self._mailbox.post(call)

    async def join(self, timeout: float) -> None:
        if self._main is None:
            self._mailbox.post(self._loop.stop)
        # The main loop has nothing else to do when it comes here.
        self._thread.join(timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        if self._main is None:
            self._loop.run_forever()
            return
        try:
            self._loop.run_until_complete(self._main())
        # The thread must not die in silence: /healthz then sees no tick and Kubernetes restarts the container.
        except Exception:
            structlog.get_logger("millpond.worker").exception(f"{self._name} failed")


@dataclass
class LoopHost:
    """The loop that runs when it is started: nothing is parallel."""

    name: str
    _loop: asyncio.AbstractEventLoop | None = None
    _task: "asyncio.Task[None] | None" = None

    def start(self, main: Main | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if main is not None:
            self._task = self._loop.create_task(main(), name=self.name)

    def post(self, call: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    async def join(self, timeout: float) -> None:
        if self._task:
            await asyncio.wait((self._task,), timeout=timeout)


@dataclass(frozen=True)
class Place:
    """How a worker's parts are housed. `outside` hears +1 when work begins that the loop does not see (a plain
    function on its thread) and -1 when its end has arrived: meanwhile, time cannot be jumped over. Without `children`,
    handlers that want a process of their own run as others do: an app that is no module's cannot be loaded in one."""

    make_host: Callable[[str], Host] = ThreadHost
    outside: Callable[[int], None] = field(default=lambda _: None)
    children: bool = True


THREADS = Place()
