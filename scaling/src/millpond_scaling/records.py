"""The JSON form of one recorded decision, and making it again.

Owns the record that the operator writes to the ledger stream and that `millpond explain` and `replay` read. The form
follows the dataclasses of `model` by their fields, so it grows when they grow. A record stands alone: policy,
observation, memory before and `now` are all that `decide` takes. It survives versions: unknown fields are ignored,
missing ones take the dataclass's default; a form that means something else gets another `v` and is refused by name.
Numbers come back to the bit, with their type (1 is not 1.0: a sentence shows it). It does no I/O.
"""

import json
import math
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from millpond_scaling.engine import decide
from millpond_scaling.model import Decision, Memory, Observation, Policy

VERSION = 1
_NON_FINITE = "float"
"""JSON has no infinity: it is written as {"float": "inf"}, which nothing else can be."""


class RecordError(ValueError):
    """A record that cannot be read: the sentence says where and why."""


@dataclass(frozen=True)
class Record:
    """One decision as it was made. `at` is the wall clock (RFC 3339), `now` the operator's steady clock in seconds."""

    at: str
    now: float
    policy: Policy
    seen: Observation
    memory: Memory
    """The memory before; the one after is in the decision."""
    decision: Decision
    acted: bool
    """Whether the number was set; False in shadow mode, and where the decision changed nothing."""
    namespace: str = ""
    pool: str = ""
    v: int = VERSION


@dataclass(frozen=True)
class Difference:
    """How a decision made again differs from the recorded one. `fields`: names of Decision's fields, in its order."""

    recorded: Decision
    made: Decision
    fields: tuple[str, ...]

    @property
    def number(self) -> bool:
        """Whether the number of workers differs, not just the words or the inputs."""
        return self.recorded.target != self.made.target


def encode(record: Record) -> bytes:
    """One line of JSON, UTF-8, without a newline."""
    return json.dumps(_plain(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def decode(data: bytes | str) -> Record:
    """The record; RecordError when it is none, or of a version that this code does not know."""
    try:
        plain = json.loads(data)
    except ValueError as error:
        raise RecordError(f"not JSON ({error})") from error
    if not isinstance(plain, dict):
        raise RecordError("not a JSON object")
    version = plain.get("v", VERSION)
    if version != VERSION:
        raise RecordError(f"version {version!r} of the ledger is not known here (only {VERSION}): update `millpond`")
    record = _typed(Record, plain, "record")
    assert isinstance(record, Record)
    return record


def again(record: Record, policy: Policy | None = None) -> Difference | None:
    """The recorded decision made again, with another policy if given; None when it is the same, bit for bit."""
    made = decide(record.seen, policy or record.policy, record.memory, record.now)
    return compare(record.decision, made)


def compare(recorded: Decision, made: Decision) -> Difference | None:
    """What differs between two decisions, by their JSON forms; None when nothing does."""
    names = tuple(
        one.name for one in fields(Decision) if _text(getattr(recorded, one.name)) != _text(getattr(made, one.name))
    )
    return Difference(recorded, made, names) if names else None


def _text(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    """Dataclasses as objects, tuples as lists, everything else as it is."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_NON_FINITE: str(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(kind: Any, data: Any, where: str) -> Any:
    """`data` as a value of the type `kind`; `where` names the place in errors."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _one_of(get_args(kind), data, where)
    if origin is Literal or kind is Any:
        return data
    if origin is tuple:
        return _tuple(get_args(kind), data, where)
    if origin is dict:
        _expect(isinstance(data, dict), "an object", where)
        return {key: _typed(get_args(kind)[1], one, f"{where}.{key}") for key, one in data.items()}
    if is_dataclass(kind):
        return _dataclass(kind, data, where)
    return _scalar(kind, data, where)


def _one_of(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    for kind in others[:-1]:
        try:
            return _typed(kind, data, where)
        except RecordError:
            continue
    return _typed(others[-1], data, where)


def _tuple(kinds: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(data, list), "a list", where)
    if kinds[-1] is Ellipsis:
        return tuple(_typed(kinds[0], one, f"{where}[{index}]") for index, one in enumerate(data))
    _expect(len(data) >= len(kinds), f"a list of {len(kinds)}", where)
    return tuple(
        _typed(kind, one, f"{where}[{index}]") for index, (kind, one) in enumerate(zip(kinds, data, strict=False))
    )


def _dataclass(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, dict), "an object", where)
    hints, values = _hints(kind), {}
    for one in fields(kind):
        if one.name in data:
            values[one.name] = _typed(hints[one.name], data[one.name], f"{where}.{one.name}")
        elif one.default is MISSING and one.default_factory is MISSING:
            raise RecordError(f"{where}.{one.name} is missing")
    return kind(**values)


def _scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is float and isinstance(data, dict):
        _expect(set(data) == {_NON_FINITE}, "a number", where)
        return float(data[_NON_FINITE])
    # An int may stand in a float's place, as in Python; it comes back as the int that it was.
    allowed = (int, float) if kind is float else kind
    _expect(isinstance(data, allowed) and (isinstance(data, bool) == (kind is bool)), f"of type {kind.__name__}", where)
    return data


def _expect(fine: bool, what: str, where: str) -> None:
    if not fine:
        raise RecordError(f"{where} is not {what}")
