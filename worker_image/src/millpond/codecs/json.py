"""The JSON codec: arguments by the contract's own parser, results by orjson (dataclasses, dates, UUIDs, models)."""

from typing import Any

import orjson
import pydantic
from millpond_api.envelope import Payload, parse_payload
from millpond_api.events import MAX_RESULT_BYTES

from millpond.errors import ResultNotSerializable, ResultTooLarge


class JsonCodec:
    """Stateless."""

    def decode(self, body: bytes) -> Payload:
        return parse_payload(body)

    def encode_result(self, result: Any) -> bytes:
        try:
            encoded = orjson.dumps(result, default=_default, option=orjson.OPT_NON_STR_KEYS)
        except (TypeError, ValueError, RecursionError) as error:
            raise ResultNotSerializable(
                f"the handler returned {type(result).__name__}, which is not JSON ({error}): return plain values, "
                "dataclasses or pydantic models"
            ) from None
        if len(encoded) > MAX_RESULT_BYTES:
            raise ResultTooLarge(
                f"the result has {len(encoded)} bytes, a task may return {MAX_RESULT_BYTES}: store it elsewhere and "
                "return where it is"
            )
        return encoded


def _default(value: Any) -> Any:
    """What orjson does not know itself."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return sorted(value) if all(isinstance(item, str) for item in value) else list(value)
    if isinstance(value, bytes):
        # Silently guessing an encoding would hand back something else than was returned.
        raise TypeError("bytes: encode them, as base64 for instance")
    raise TypeError(f"type {type(value).__name__}")
