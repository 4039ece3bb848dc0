"""What a conversion takes and gives: choices, manifest, notes. Plain data; no field of KEDA is known here."""

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


class ImportRefused(ValueError):
    """The object cannot become a WorkerPool at all: the sentence says why and what to do."""


@dataclass(frozen=True)
class Note:
    """A field without an exact equivalent, and what to do instead."""

    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


@dataclass(frozen=True)
class Choice:
    """What a ScaledObject does not say. `defaults` writes out what KEDA and the HPA assume where nothing stands."""

    app: str = ""
    image: str = ""
    concurrency: int = 1
    defaults: bool = False


@dataclass(frozen=True)
class Conversion:
    """The WorkerPool's manifest and the notes, in the order of the fields."""

    manifest: Object
    notes: list[Note] = field(default_factory=list)


class Reader:
    """A part of the object that is taken apart field by field: what nobody took is named at the end."""

    def __init__(self, data: Any, path: str, notes: list[Note]) -> None:
        if not isinstance(data or {}, dict):
            raise ImportRefused(f"{path} is not an object")
        self._rest: Object = dict(data or {})
        self.path = path
        self.notes = notes

    def take(self, name: str, default: Any = None) -> Any:
        """The field's value; `default` when it is absent or null."""
        value = self._rest.pop(name, None)
        return default if value is None else value

    def integer(self, name: str, default: int | None = None) -> int | None:
        """A whole number, also written as text (trigger metadata holds texts); ImportRefused when it is none."""
        value = self.take(name, default)
        if value is None:
            return None
        try:
            return int(str(value))
        except ValueError:
            raise ImportRefused(f"{self.path}.{name} is {value!r}, not a whole number") from None

    def note(self, name: str, text: str) -> None:
        self.notes.append(Note(f"{self.path}.{name}" if name else self.path, text))

    def end(self) -> None:
        """Name every field that was not taken."""
        for name in self._rest:
            self.note(name, "is not known to this import and was left out")
