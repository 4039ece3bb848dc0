"""A pool of members inside one process, with poolboy's semantics: check out, check in, overflow, owners that die.

    async with Pool(connect, size=5, max_overflow=2) as pool:
        rows = await pool.transaction(lambda connection: connection.fetch("select 1"))

Names: github.com/devinus/poolboy. `roster` decides (pure), `pool` does.
"""

from millpond.pool.pool import Pool, PoolClosed, PoolFull, PoolTimeout
from millpond.pool.roster import Status

__all__ = ["Pool", "PoolClosed", "PoolFull", "PoolTimeout", "Status"]
