"""The streams and consumers of the pools: made, kept in step with the spec, counted and deleted.

Owns their existence; what is in them is `broker.tasks`' matter. A stream is created or, where an updatable field
differs, updated; nothing is sent when nothing differs (a needless update once dropped delayed messages,
nats-server#5526). Survives a NATS server that lost everything: `ensure_…` makes it again.
"""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from millpond import transport as wire
from millpond.transport import Transport
from millpond_api import broker as shapes
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.fairness import META_LANES, has_lanes

from millpond_operator.cluster_key import PoolKey

_UPDATABLE = ("max_msgs", "max_age", "num_replicas", "duplicate_window", "metadata", "allow_atomic")
_SHARED_UPDATABLE = ("allow_atomic", "allow_msg_ttl")
"""What a shared stream of an older release lacks. Its limits are left alone: somebody may have set them by hand."""
_PAGE = 256
META_UID = "millpond.dev/pool-uid"
META_RECLAIM = "millpond.dev/reclaim-policy"


async def ensure_shared(transport: Transport, storage: str, replicas: int) -> None:
    """The streams that all pools share exist, and can do what this release needs."""
    for shape in shapes.shared_streams(storage, replicas):
        known = await _read(transport, shape["name"])
        if known is None:
            await transport.api(f"STREAM.CREATE.{shape['name']}", shape)
        else:
            await _update(transport, known["config"], {key: shape[key] for key in _SHARED_UPDATABLE if key in shape})


async def ensure_pool(transport: Transport, queue: QueueConfig) -> None:
    """The pool's stream and a consumer for each class exist and follow the spec."""
    shape = shapes.pool_stream(queue)
    name = shape["name"]
    known = await _read(transport, name)
    if known is None:
        # Only what falls due from now on: schedules of an earlier pool of this name have been served or dropped.
        shape["sources"][0]["opt_start_time"] = datetime.now(UTC).isoformat()
        await transport.api(f"STREAM.CREATE.{name}", shape)
    else:
        await _update(transport, known["config"], {key: shape[key] for key in _UPDATABLE})
    for task_class in queue.classes:
        await _ensure_consumer(transport, name, shapes.class_consumer(queue, task_class))


async def _update(transport: Transport, config: dict[str, Any], wanted: dict[str, Any]) -> None:
    changed = {key: value for key, value in wanted.items() if not _same(config.get(key), value)}
    if changed:
        await transport.api(f"STREAM.UPDATE.{config['name']}", config | changed)


async def delete_pool(transport: Transport, key: PoolKey) -> bool:
    """Delete the pool's queue, stored results, signals and checkpoints; False when there was no queue."""
    left = {subjects.STREAM_OBJECTS: subjects.stored_objects(*key), **subjects.conversations(*key)}
    for stream, subject in left.items():
        # A stream that an older release did not make is not there yet, and then nothing is in it.
        with contextlib.suppress(wire.StreamMissing):
            await transport.api(f"STREAM.PURGE.{stream}", {"filter": subject})
    try:
        await transport.api(f"STREAM.DELETE.{subjects.pool_stream(*key)}")
    except wire.TransportError as error:
        if _missing(error):
            return False
        raise
    return True


async def forget_catalogue(transport: Transport, key: PoolKey) -> None:
    """What the pool's workers have announced is not known any more; those that start announce again."""
    await transport.api(f"STREAM.PURGE.{subjects.STREAM_CATALOGUE}", {"filter": subjects.catalogue(*key)})


class Reading(NamedTuple):
    """One queue at one moment: tasks waiting and in flight, and tasks ever stored in it."""

    lag: int
    arrived: int


async def read_queues(transport: Transport) -> dict[PoolKey, Reading]:
    """Every pool's queue, in one request for each 256 pools."""
    readings: dict[PoolKey, Reading] = {}
    async for stream in _list(transport):
        parsed = subjects.parse_pool_stream(stream["config"]["name"])
        if parsed:
            readings[PoolKey(*parsed)] = _reading(stream)
    return readings


async def read_queue(transport: Transport, key: PoolKey) -> Reading | None:
    """One pool's queue; None when there is no such stream."""
    info = await _read(transport, subjects.pool_stream(*key))
    return _reading(info) if info else None


def _reading(info: dict[str, Any]) -> Reading:
    return Reading(int(info["state"]["messages"]), int(info["state"]["last_seq"]))


async def read_first_time(transport: Transport, key: PoolKey) -> float | None:
    """When the oldest task of the queue was stored (epoch seconds, NATS's clock); None when it is empty."""
    info = await _read(transport, subjects.pool_stream(*key))
    if info is None or not info["state"]["messages"]:
        return None
    return datetime.fromisoformat(info["state"]["first_ts"]).timestamp()


async def read_owners(transport: Transport) -> dict[PoolKey, dict[str, str]]:
    """The metadata of every pool's stream: whose it is and what is to become of it."""
    owners = {}
    async for stream in _list(transport):
        parsed = subjects.parse_pool_stream(stream["config"]["name"])
        if parsed:
            owners[PoolKey(*parsed)] = dict(stream["config"].get("metadata") or {})
    return owners


async def _list(transport: Transport) -> AsyncIterator[dict[str, Any]]:
    """Every pool's stream, page by page: never all of them in memory at once."""
    seen = 0
    while True:
        page: dict[str, Any] = await transport.api("STREAM.LIST", {"offset": seen, "subject": "mp.tasks.>"})
        found = page.get("streams") or []
        for stream in found:
            yield stream
        seen += len(found)
        if not found or seen >= page.get("total", 0) or len(found) < _PAGE:
            return


async def _read(transport: Transport, name: str) -> dict[str, Any] | None:
    try:
        return await transport.api(f"STREAM.INFO.{name}")
    except wire.TransportError as error:
        if _missing(error):
            return None
        raise


def _missing(error: wire.TransportError) -> bool:
    return isinstance(error, wire.StreamMissing)


def _same(known: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        # The server adds keys of its own to the metadata.
        return all((known or {}).get(key) == value for key, value in wanted.items())
    return bool((known or 0) == wanted)


async def _ensure_consumer(transport: Transport, stream: str, shape: dict[str, Any]) -> None:
    name = shape["durable_name"]
    try:
        info: dict[str, Any] = await transport.api(f"CONSUMER.INFO.{stream}.{name}")
        config: dict[str, Any] = info["config"]
        wanted = {"ack_wait": shape["ack_wait"], "metadata": shape.get("metadata") or {}}
        if has_lanes(info) and not wanted["metadata"]:
            # No more lanes for new tasks; what is in them, or is scheduled into them, still has to be found.
            wanted["metadata"] = {META_LANES: "0"}
        if all(_same(config.get(key), value) for key, value in wanted.items()):
            return
        shape = config | wanted
    except wire.Unconfirmed:
        raise
    except wire.TransportError:
        pass  # no such consumer: made below
    await transport.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": shape, "action": ""})
