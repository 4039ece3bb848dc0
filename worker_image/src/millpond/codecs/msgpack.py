"""MessagePack (https://msgpack.org): bytes stay bytes, and times with a zone stay times; tuples become lists."""

from typing import Any

import msgpack

from millpond.codecs.plain import PlainCodec, simplify


def make() -> PlainCodec:
    return PlainCodec("msgpack", _encode, _decode)


def _encode(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, default=simplify, datetime=True)
    return packed


def _decode(body: bytes) -> Any:
    # timestamp=3: as datetime in UTC. Keys may be numbers, as a dict's may.
    return msgpack.unpackb(body, timestamp=3, strict_map_key=False)
