"""Which asyncio tasks belong to which worker, so that one worker can die while the rest of the loop goes on.

Owns the loop's task factory while it is installed. A task belongs to whoever made it, however far down: the crew is a
context variable, which tasks and callbacks inherit. Threads of plain handlers cannot be killed; what they return
reaches nobody, because the dead worker's connections are gone.
"""

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

_CREW: contextvars.ContextVar["Crew | None"] = contextvars.ContextVar("millpond_crew", default=None)


class Crew:
    """The tasks of one worker."""

    def __init__(self) -> None:
        self.tasks: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()

    def start(self, main: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Run `main` as the first of them."""
        context = contextvars.copy_context()
        context.run(_CREW.set, self)
        return asyncio.get_running_loop().create_task(main, name=name, context=context)

    def kill(self) -> None:
        """Cancel all of them; none gets an answer from anywhere any more."""
        for task in list(self.tasks):
            task.cancel()


def install(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Have the loop's tasks know their crew from now on; call what is returned to end that."""
    before = loop.get_task_factory()

    def make(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        context: contextvars.Context | None = options.get("context")
        task = before(loop, work, **options) if before else asyncio.Task(work, loop=loop, **options)
        crew = _CREW.get() if context is None else context.get(_CREW)
        if crew is not None:
            crew.tasks.add(task)
        return task

    loop.set_task_factory(make)
    return lambda: loop.set_task_factory(before)
