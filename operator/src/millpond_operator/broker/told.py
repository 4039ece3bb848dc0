"""What the operator tells the workers of a pool that are not in its cluster: one stored message for each pool.

Owns the stream's messages; what is in them is made by `resources.variables`. A message is written only when it says
something new, since every remote worker looks whether it has to begin anew.
"""

import pydantic
from millpond.transport import Publish, Transport
from millpond_api import subjects
from millpond_api.remote import PoolSettings

from millpond_operator.cluster_key import PoolKey

DELETED_KEPT = 30 * 86400.0
"""Seconds for which it stays known that a pool is gone: whoever was away for longer finds nothing, and waits too."""


async def tell(transport: Transport, key: PoolKey, settings: PoolSettings) -> bool:
    """Whether the message had to be written."""
    subject = subjects.settings(*key)
    stored = await transport.read_last(subjects.STREAM_SETTINGS, subject)
    if stored and settings.says_the_same(_read(stored.body)):
        return False
    options = Publish(ttl=DELETED_KEPT if settings.deleted else 0.0)
    await transport.publish_stored(subject, settings.encode(), options=options)
    return True


async def read_told(transport: Transport) -> list[PoolKey]:
    """Every pool that something is known of, those that are gone among them."""
    ask = {"subjects_filter": subjects.settings_all()}
    info = await transport.api(f"STREAM.INFO.{subjects.STREAM_SETTINGS}", ask)
    state = info["state"]
    assert isinstance(state, dict)
    return [PoolKey(*subjects.parse_settings(subject)) for subject in state.get("subjects") or {}]


def _read(body: bytes) -> PoolSettings | None:
    try:
        return PoolSettings.decode(body)
    except pydantic.ValidationError:
        return None  # another release's: written anew
