"""The base of everything that travels as JSON: frozen, tolerant of unknown fields, compact.

`Wire` is a model; `Record` is for what an operator remembers 20,000 times: a dataclass with slots, validated alike, in
a fifth of a model's memory (a model carries a dictionary and a set of the fields that were given: 1.4 KB for ten).
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter


class Wire(BaseModel):
    """Unknown fields are ignored, so an older side reads what a newer side wrote."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def encode(self) -> bytes:
        """Compact JSON without null fields."""
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read what `encode` wrote; pydantic.ValidationError when it is something else."""
        return cls.model_validate_json(body)


class Spelled(Wire):
    """One that people also write in their programs: there a misspelt name is refused, and not silently the default."""

    # Called with the names by programs alone: pydantic makes what it reads with an empty `__new__`.
    def __new__(cls, **given: Any) -> Self:
        unknown = sorted(given.keys() - cls.model_fields.keys())
        if unknown:
            raise TypeError(f"{cls.__name__} has no {unknown[0]!r}: it knows {', '.join(cls.model_fields)}")
        return super().__new__(cls)


class Record:
    """The same two methods for a `pydantic.dataclasses.dataclass(frozen=True, slots=True)`."""

    __slots__ = ()

    def encode(self) -> bytes:
        """Compact JSON without null fields."""
        return _adapter(type(self)).dump_json(self, exclude_none=True)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read what `encode` wrote; pydantic.ValidationError when it is something else."""
        read: Self = _adapter(cls).validate_json(body)
        return read


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
