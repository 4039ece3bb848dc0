"""What a pool's forecast has learnt, kept on the broker so that the next leader goes on with it.

Owns one message a pool; what stands in it is the forecast's own matter. Losing it costs some days of learning and
nothing else, so a write waits for no answer.
"""

from millpond.transport import Transport
from millpond_api import subjects

from millpond_operator.cluster_key import PoolKey


async def read(transport: Transport, key: PoolKey) -> bytes | None:
    """What was kept last; None when there is nothing."""
    stored = await transport.read_last(subjects.STREAM_HISTORY, subjects.history(*key))
    return stored.body if stored else None


async def keep(transport: Transport, key: PoolKey, state: bytes) -> bool:
    """Keep this from now on; False while NATS is away."""
    return await transport.send(subjects.history(*key), state)
