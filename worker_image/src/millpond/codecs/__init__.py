"""How arguments and results become bytes, by the codec's name in the envelope.

Owns the mapping from name to codec: `json`, `msgpack`, `cbor`, `pickle`, and those of installed distributions (entry
points of the group `millpond.codecs`: an object with `encode(value) -> bytes` and `decode(bytes) -> value`). A codec
does no I/O and raises only the errors named in `Codec`. It must never unpickle for somebody who has not asked for it:
`check_codec` refuses before a byte is read.
"""

import importlib
import importlib.metadata
import importlib.util
from functools import lru_cache
from typing import Any, Protocol

from millpond_api.envelope import Payload

from millpond.codecs.json import JsonCodec
from millpond.codecs.plain import PlainCodec
from millpond.errors import CodecMissing, CodecRefused

GROUP = "millpond.codecs"
_MODULES = {"msgpack": "msgpack", "cbor": "cbor2"}
"""Codec → module that it needs."""
_EXTRAS = (*_MODULES, "zstd")
"""Codecs and the compression that an extra of the distribution `millpond` brings, under the same name."""


class Codec(Protocol):
    """Arguments and results to bytes and back."""

    def encode_arguments(self, payload: dict[str, Any]) -> bytes:
        """`{"args": […], "kwargs": {…}}` as bytes; `ArgumentsNotSerializable` when it has no form in the codec."""
        ...

    def decode_arguments(self, body: bytes) -> Payload:
        """The handler's arguments; `MalformedTask` when the body does not hold any."""
        ...

    def encode_result(self, result: Any) -> bytes:
        """The result as bytes; `ResultNotSerializable` when it has no form in the codec."""
        ...

    def decode_result(self, body: bytes) -> Any:
        """What `encode_result` was given; ValueError when the bytes are something else."""
        ...


_JSON = JsonCodec()


def get_codec(name: str) -> Codec:
    """The codec of that name; `CodecMissing`, which says what to install, when it is not here."""
    return _JSON if name == "json" else _find(name)


@lru_cache(maxsize=64)
def has_codec(name: str) -> bool:
    """Whether `get_codec` would find it."""
    if name in _MODULES:
        return importlib.util.find_spec(_MODULES[name]) is not None
    return name in ("json", "pickle") or name in _entries()


def check_codec(name: str, allowed: tuple[str, ...], *, pickle: bool) -> None:
    """`CodecRefused` when this side has not agreed to the codec: `allowed` (empty: all) and, for pickle, by name."""
    if name == "pickle" and not pickle:
        raise CodecRefused(
            "pickle runs code of whoever wrote it, so both sides have to agree: Client.connect(pickle=True) and the "
            "pool's spec.results.pickle: true"
        )
    if allowed and name not in allowed:
        raise CodecRefused(f"codec {name!r} is not among the pool's spec.results.codecs ({', '.join(allowed)})")


def missing(name: str) -> CodecMissing:
    """The error for a codec or a compression that is not installed."""
    if name in _EXTRAS:
        return CodecMissing(f"{name} is not installed here: pip install 'millpond[{name}]'")
    known = ", ".join(sorted({"json", "pickle", "msgpack", "cbor", *_entries()}))
    return CodecMissing(
        f"codec {name!r} is not installed here (known: {known}): install the distribution that has it as an entry "
        f"point of the group {GROUP}"
    )


@lru_cache(maxsize=64)
def _find(name: str) -> Codec:
    if not has_codec(name):
        raise missing(name)
    if name in ("msgpack", "cbor", "pickle"):
        made: Codec = importlib.import_module(f"millpond.codecs.{name}").make()
        return made
    found = _entries()[name].load()
    return PlainCodec(name, found.encode, found.decode)


@lru_cache(maxsize=1)
def _entries() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
