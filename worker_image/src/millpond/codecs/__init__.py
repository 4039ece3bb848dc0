"""How arguments and results become bytes, by the codec's name in the envelope. Only `json` exists today.

Owns the mapping from name to codec; a codec does no I/O and raises only the errors named in `Codec`.
"""

from typing import Any, Protocol

from millpond_api.envelope import MalformedTask, Payload

from millpond.codecs.json import JsonCodec


class Codec(Protocol):
    """Arguments in, result out."""

    def decode(self, body: bytes) -> Payload:
        """The handler's arguments; `MalformedTask` when the body does not hold any."""
        ...

    def encode_result(self, result: Any) -> bytes:
        """JSON of the result; `ResultNotSerializable` or `ResultTooLarge` when it cannot travel in an event."""
        ...


_CODECS: dict[str, Codec] = {"json": JsonCodec()}


def get_codec(name: str) -> Codec:
    """The codec of that name; `MalformedTask` when this worker does not have it."""
    codec = _CODECS.get(name)
    if codec is None:
        raise MalformedTask(f"codec {name!r} is unknown to this worker: it has {', '.join(sorted(_CODECS))}")
    return codec
