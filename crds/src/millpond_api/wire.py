"""The base of everything that travels as JSON: frozen, tolerant of unknown fields, compact."""

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """Unknown fields are ignored, so an older side reads what a newer side wrote."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def encode(self) -> bytes:
        """Compact JSON without null fields."""
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()
