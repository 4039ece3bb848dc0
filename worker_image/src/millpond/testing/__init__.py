"""Tests of handlers in milliseconds: a pool in the test's own process, without a server and in virtual time.

    from millpond.testing import Pool

    async def test_resize() -> None:
        async with Pool(app) as pool:
            handle = await pool.submit("resize", "cat.png")
            assert await handle.result() == "cat-800.png"

`docs/testing.md` says more; the fixture `millpond_pool` comes with the package.
"""

from millpond.testing.clock import Clock, NoVirtualTime
from millpond.testing.faults import STEPS, Faults
from millpond.testing.pool import Pool, TestWorker
from millpond.testing.server import MemoryServer, ensure_pool

__all__ = ["STEPS", "Clock", "Faults", "MemoryServer", "NoVirtualTime", "Pool", "TestWorker", "ensure_pool"]
