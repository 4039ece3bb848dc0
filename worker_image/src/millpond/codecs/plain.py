"""A codec made of two functions: the same form for arguments and results."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import pydantic
from millpond_api.envelope import MalformedTask, Payload

from millpond.errors import ArgumentsNotSerializable, ResultNotSerializable


@dataclass(frozen=True)
class PlainCodec:
    """`encode` and `decode` are somebody else's: whatever they raise means that value and codec do not fit."""

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]

    def encode_arguments(self, payload: dict[str, Any]) -> bytes:
        try:
            return self.encode(payload)
        # See the class: the errors of another library cannot be named one by one.
        except Exception as error:
            raise ArgumentsNotSerializable(
                f"the arguments have no form in {self.name} ({error}): pass values that it knows, or another codec="
            ) from error

    def decode_arguments(self, body: bytes) -> Payload:
        try:
            return Payload.model_validate(self.decode(body))
        except pydantic.ValidationError as error:
            raise MalformedTask(
                f"the payload is not {{args, kwargs}} in {self.name}: {error.errors()[0]['msg']}"
            ) from None
        # As above.
        except Exception as error:
            raise MalformedTask(f"the payload is not {self.name}: {error}") from error

    def encode_result(self, result: Any) -> bytes:
        try:
            return self.encode(result)
        # As above.
        except Exception as error:
            raise ResultNotSerializable(
                f"the handler returned {type(result).__name__}, which has no form in {self.name} ({error})"
            ) from None

    def decode_result(self, body: bytes) -> Any:
        try:
            return self.decode(body)
        # As above.
        except Exception as error:
            raise ValueError(f"the result is not {self.name}: {error}") from error


def simplify(value: Any) -> Any:
    """Plain values of what a schemaless format does not know itself: dataclasses, models and sets."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="python")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value) if all(isinstance(item, str) for item in value) else list(value)
    raise TypeError(f"type {type(value).__name__}")
