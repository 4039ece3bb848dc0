"""A pool's members one by one: made, known to be dead, ended.

Owns what the pool expects of a member and of the factory that makes it. Who has which member is `roster`'s, when one is
made or ended is `pool`'s. A member that ends badly is gone all the same.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import structlog

M = TypeVar("M")
Factory = Callable[[], M | Awaitable[M]]

YOUNG = 1.0
"""Seconds: a member that dies before, and that nobody has had, counts as a start that failed."""


@dataclass(eq=False)
class Seat(Generic[M]):
    """A member of the pool; its identity, since members need not be hashable."""

    member: M
    born: float = field(default_factory=time.monotonic)
    used: bool = False

    @property
    def dead(self) -> bool:
        return is_dead(self.member)

    @property
    def young(self) -> bool:
        """Whether its death says that the next one will die, too."""
        return not self.used and time.monotonic() - self.born < YOUNG

    def watch(self, on_death: "Callable[[Seat[M]], None]") -> None:
        """Hear of its death, if it has any."""
        closed = getattr(self.member, "closed", None)
        if isinstance(closed, asyncio.Future):
            closed.add_done_callback(lambda _: on_death(self))

    async def end(self) -> None:
        """End the member in its own way; it is out of the pool already."""
        close = getattr(self.member, "close", None)
        if close is None:
            return
        try:
            done = close()
            if inspect.isawaitable(done):
                await done
        except Exception as error:  # a member that ends badly is gone all the same
            structlog.get_logger(__name__).warning("a member did not end in order", error=repr(error))


async def make_member(factory: Factory[M]) -> M:
    """One more; whatever the factory raises, and RuntimeError for one that was born dead."""
    if inspect.iscoroutinefunction(factory):
        made: Any = await factory()
    else:
        made = await asyncio.to_thread(factory)
        if inspect.isawaitable(made):
            made = await made
    if is_dead(made):
        raise RuntimeError("the member was dead when it was made")
    return cast(M, made)


def is_dead(member: object) -> bool:
    closed = getattr(member, "closed", None)
    return isinstance(closed, asyncio.Future) and closed.done()
