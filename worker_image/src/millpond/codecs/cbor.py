"""CBOR (RFC 8949): bytes, times with a zone, sets, decimals and large integers stay what they are."""

from typing import Any

import cbor2

from millpond.codecs.plain import PlainCodec, simplify


def make() -> PlainCodec:
    return PlainCodec("cbor", _encode, cbor2.loads)


def _encode(value: Any) -> bytes:
    return cbor2.dumps(value, default=lambda encoder, unknown: encoder.encode(simplify(unknown)))
