"""The JSON codec: arguments by the contract's own parser, results by orjson (dataclasses, dates, UUIDs, models)."""

import json
from typing import Any

import orjson
import pydantic
from millpond_api.envelope import Payload, parse_payload

from millpond.codecs.plain import simplify
from millpond.errors import ArgumentsNotSerializable, ResultNotSerializable


class JsonCodec:
    """Stateless."""

    def encode_arguments(self, payload: dict[str, Any]) -> bytes:
        """Strict: what JSON has no form for is refused instead of arriving as something else."""
        try:
            return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ArgumentsNotSerializable(
                f"the arguments have no form in JSON ({error}): pass plain values (numbers, texts, lists, dicts), "
                "or a name under which the worker finds the data, or submit with another codec="
            ) from error

    def decode_arguments(self, body: bytes) -> Payload:
        return parse_payload(body)

    def encode_result(self, result: Any) -> bytes:
        try:
            return orjson.dumps(result, default=_default, option=orjson.OPT_NON_STR_KEYS)
        except (TypeError, ValueError, RecursionError) as error:
            raise ResultNotSerializable(
                f"the handler returned {type(result).__name__}, which is not JSON ({error}): return plain values, "
                "dataclasses or pydantic models"
            ) from None

    def decode_result(self, body: bytes) -> Any:
        return orjson.loads(body)


def _default(value: Any) -> Any:
    """What orjson does not know itself."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, bytes):
        # Silently guessing an encoding would hand back something else than was returned.
        raise TypeError("bytes: encode them, as base64 for instance")
    return simplify(value)
