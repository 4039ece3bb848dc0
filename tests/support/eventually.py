"""Waiting for something to become true, without fixed sleeps.

Owns the one polling loop of the tests. It must not hide a failure: when time is up, the last value or
assertion is in the message. Limits are generous because test machines are small and shared; an idle one never waits
for them.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

from millpond.transport import Unconfirmed

T = TypeVar("T")

DEFAULT_TIMEOUT = 30.0
NOT_YET = (AssertionError, Unconfirmed)
"""What a look may end with and be repeated: a broker that stalled for five seconds has not answered, no more."""
INTERVAL = 0.02
"""Seconds between looks: short beside a JetStream round trip on a busy machine (1 to 20 ms), cheap beside a core."""


@overload
async def eventually(
    probe: Callable[[], Coroutine[Any, Any, T]], timeout: float = DEFAULT_TIMEOUT, what: str = ""
) -> T: ...


@overload
async def eventually(probe: Callable[[], T], timeout: float = DEFAULT_TIMEOUT, what: str = "") -> T: ...


async def eventually(probe: Callable[[], Any], timeout: float = DEFAULT_TIMEOUT, what: str = "") -> Any:
    """The first truthy value of `probe` (plain or async); an assertion that fails, or no answer, means "not yet"."""
    deadline = time.monotonic() + timeout
    while True:
        seen: object
        try:
            found = probe()
            value = await found if inspect.isawaitable(found) else found
            if value:
                return value
            seen = value
        except NOT_YET as error:
            seen = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what or 'it'} did not become true within {timeout} s; last seen: {seen!r}")
        await asyncio.sleep(INTERVAL)


def eventually_sync(
    probe: Callable[[], T], timeout: float = DEFAULT_TIMEOUT, what: str = "", interval: float = INTERVAL
) -> T:
    """The same for code without an event loop; a longer `interval` where a look is costly."""
    deadline = time.monotonic() + timeout
    while True:
        seen: object
        try:
            value = probe()
            if value:
                return value
            seen = value
        except NOT_YET as error:
            seen = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what or 'it'} did not become true within {timeout} s; last seen: {seen!r}")
        time.sleep(interval)
