"""Values packed for the wire: by a codec, compressed where it pays. Pure.

Owns what both sides must do alike: arguments are packed by the client and opened by the worker, results the other way
round. It must not decide where the bytes lie (in the message, in an event, in the object store): `objects` does that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from millpond_api.envelope import Envelope, MalformedTask, Payload
from millpond_api.events import MAX_OBJECT_BYTES

from millpond.codecs import check_codec, get_codec, has_codec, zstd
from millpond.errors import ArgumentsNotSerializable, ResultTooLarge

ZIP_ABOVE = 4 * 1024
"""Smaller values are sent as they are: what zstd saves there is less than a packet."""
WORTH = 0.9
"""Compressed, it must be smaller than this share of itself; random bytes are not worth the unpacking."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What one side agrees to. `codecs`: the only ones it takes (empty: all that are installed).

    `codec` and `zip` are what a client writes when nothing else is said; `zip` is also what it reads in results.
    """

    codecs: tuple[str, ...] = ()
    pickle: bool = False
    codec: str = "json"
    zip: str = ""


@dataclass(frozen=True, slots=True)
class Wrap:
    """How a task's arguments came, and how its result goes back: `accepts` is the compression its submitter reads."""

    codec: str = "json"
    zip: str = ""
    accepts: str = ""
    habits: Habits = Habits()


@dataclass(frozen=True, slots=True)
class Packed:
    """Bytes with how they came to be; `size` is before the compression.

    `accepts`, of arguments: the compression in which their submitter takes the result.
    """

    body: bytes
    codec: str = "json"
    zip: str = ""
    size: int = 0
    accepts: str = ""


def wrap_of(envelope: Envelope, habits: Habits) -> Wrap:
    return _make_wrap(envelope.codec, envelope.zip, envelope.accepts, habits)


_make_wrap = lru_cache(maxsize=64)(Wrap)
"""A pool's tasks come in a few ways; a frozen dataclass takes 1 µs to make."""


def find_lack(wrap: Wrap) -> str:
    """What this side would have to install to read it; empty when nothing is missing."""
    if not has_codec(wrap.codec):
        return wrap.codec
    return wrap.zip if wrap.zip and not (wrap.zip == "zstd" and zstd.has_zstd()) else ""


def pack_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any] | None, habits: Habits, codec: str | None = None
) -> Packed:
    """The payload of a task. ArgumentsNotSerializable, CodecRefused and CodecMissing say why it cannot be."""
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise ArgumentsNotSerializable(f"args must be a list or tuple of arguments, not {type(args).__name__}: [value]")
    codec = codec or habits.codec
    check_codec(codec, habits.codecs, pickle=habits.pickle)
    body = get_codec(codec).encode_arguments({"args": list(args), "kwargs": dict(kwargs or {})})
    return replace(_shrink(body, codec, habits.zip), accepts=habits.zip)


def open_arguments(wrap: Wrap, body: bytes) -> Payload:
    """The arguments; `MalformedTask` when there are none in it, `CodecRefused` when this side has not agreed to it."""
    check_codec(wrap.codec, wrap.habits.codecs, pickle=wrap.habits.pickle)
    codec = get_codec(wrap.codec)
    try:
        plain = _grow(body, wrap.zip)
    except ValueError as error:
        raise MalformedTask(f"the payload: {error}") from None
    return codec.decode_arguments(plain)


def pack_result(wrap: Wrap, result: Any) -> Packed:
    """The result in the codec of the arguments; `ResultNotSerializable` or `ResultTooLarge` when it cannot travel."""
    body = get_codec(wrap.codec).encode_result(result)
    if len(body) > MAX_OBJECT_BYTES:
        raise ResultTooLarge(
            f"the result has {len(body):,} bytes, a task may return {MAX_OBJECT_BYTES:,}: store it elsewhere and "
            "return where it is"
        )
    return _shrink(body, wrap.codec, wrap.accepts if wrap.accepts != "zstd" or zstd.has_zstd() else "")


def open_result(packed: Packed, habits: Habits) -> Any:
    """What the handler returned. `CodecRefused`, `CodecMissing`, or ValueError when the bytes are something else."""
    check_codec(packed.codec, habits.codecs, pickle=habits.pickle)
    return get_codec(packed.codec).decode_result(_grow(packed.body, packed.zip))


def _shrink(body: bytes, codec: str, zip: str) -> Packed:
    if zip == "zstd" and len(body) >= ZIP_ABOVE:
        small = zstd.compress(body)
        if len(small) < len(body) * WORTH:
            return Packed(small, codec, "zstd", len(body))
    return Packed(body, codec, "", len(body))


def _grow(body: bytes, zip: str) -> bytes:
    if not zip:
        return body
    if zip != "zstd":
        raise ValueError(f"compressed as {zip!r}, which nobody knows")
    return zstd.decompress(body, MAX_OBJECT_BYTES)
