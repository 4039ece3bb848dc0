"""An answer that is under way: awaited in an async handler, asked for its `result` in a plain one.

Owns the waiting, on either kind of thread. It must not start anything: what is asked has been asked when this is made.
A plain function waits in slices, so that a soft timeout or a cancellation reaches it between two of them.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from millpond.errors import TaskCancelled

T = TypeVar("T")
SLICE = 0.2
"""Seconds that a plain function waits at once."""


class Pending(Generic[T]):
    """`await it`, or `it.result(timeout=…)` in a plain function. Whoever does neither has asked nevertheless."""

    def __init__(
        self,
        future: "concurrent.futures.Future[Any]",
        is_over: Callable[[], bool] = lambda: False,
        read: Callable[[Any], T] = lambda answer: answer,
    ) -> None:
        self._future, self._is_over, self._read = future, is_over, read

    def then(self, read: Callable[[Any], Any]) -> "Pending[Any]":
        """The same answer, read so: where it is waited for."""
        return Pending(self._future, self._is_over, read)

    def __await__(self) -> Generator[Any, None, T]:
        return self._read((yield from asyncio.wrap_future(self._future).__await__()))

    def result(self, timeout: float | None = None) -> T:
        """Blocks the thread; TimeoutError after `timeout` seconds, TaskCancelled when the attempt is to end."""
        refuse_in_a_loop("await it")
        for left in slices(timeout, self._is_over):
            done, _ = concurrent.futures.wait((self._future,), left)
            if done:
                return self._read(self._future.result())
        raise TimeoutError(f"the worker has not answered within {timeout:g} s")


def slices(timeout: float | None, is_over: Callable[[], bool]) -> Generator[float, None, None]:
    """Seconds to wait at once, until `timeout` is over; TaskCancelled when the attempt is to end before."""
    until = None if timeout is None else time.monotonic() + timeout
    # Once at least, so that a timeout of 0 finds what is there.
    left = SLICE if until is None else min(SLICE, max(0.0, until - time.monotonic()))
    while True:
        yield left
        if is_over():
            raise TaskCancelled("the task was cancelled, or its worker stops: nobody waits for an answer any more")
        left = SLICE if until is None else min(SLICE, until - time.monotonic())
        if left <= 0:
            return


def refuse_in_a_loop(instead: str) -> None:
    """RuntimeError in a thread that runs an event loop: blocking it would keep the answer away too."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"this blocks its thread and was called in an event loop's: {instead} instead")
