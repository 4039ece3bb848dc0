"""What travels between a client and the broker, the refusals, and how subjects match. Pure.

Error codes and texts are those of nats-server (server/errors.json).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

NANOSECONDS = 1_000_000_000


@dataclass(slots=True)
class Packet:
    """A message on its way."""

    subject: str
    data: bytes = b""
    reply: str = ""
    headers: Mapping[str, str] | None = None


class Refusal(Exception):
    """What the broker says instead of doing it: `code` as in HTTP, `kind` is JetStream's own."""

    def __init__(self, code: int, kind: int, text: str) -> None:
        super().__init__(text)
        self.code, self.kind, self.text = code, kind, text

    def encode(self) -> dict[str, object]:
        return {"code": self.code, "err_code": self.kind, "description": self.text}


def stream_missing() -> Refusal:
    return Refusal(404, 10059, "stream not found")


def consumer_missing() -> Refusal:
    return Refusal(404, 10014, "consumer not found")


def status(code: int, text: str = "", **more: str) -> dict[str, str]:
    """The headers of a control message."""
    found = {"Status": str(code)}
    if text:
        found["Description"] = text
    return found | more


@lru_cache(maxsize=4096)
def _tokens(subject: str) -> tuple[str, ...]:
    return tuple(subject.split("."))


def is_literal(pattern: str) -> bool:
    """Whether it names one subject. A `*` or `>` is a wildcard only as a whole token."""
    return not any(token in ("*", ">") for token in _tokens(pattern))


def capture(pattern: str, subject: str) -> tuple[str, ...] | None:
    """What the pattern's wildcards stand for in the subject; None when it does not match."""
    want, have = _tokens(pattern), _tokens(subject)
    found: list[str] = []
    for place, token in enumerate(want):
        if place >= len(have):
            return None
        if token == ">":
            return (*found, ".".join(have[place:]))
        if token == "*":
            found.append(have[place])
        elif token != have[place]:
            return None
    return tuple(found) if len(want) == len(have) else None


def matches(pattern: str, subject: str) -> bool:
    return pattern == subject or capture(pattern, subject) is not None


def overlaps(first: str, second: str) -> bool:
    """Whether some subject matches both."""
    one, two = _tokens(first), _tokens(second)
    for mine, theirs in zip(one, two, strict=False):
        if ">" in (mine, theirs):
            return True
        if mine != theirs and "*" not in (mine, theirs):
            return False
    return len(one) == len(two)


def transform(source: str, target: str, subject: str) -> str | None:
    """The subject that `target`'s wildcards make of what `source`'s stand for, in their order; None: no match."""
    caught = capture(source, subject)
    if caught is None:
        return None
    left = iter(caught)
    return ".".join(next(left, "") if token in ("*", ">") else token for token in _tokens(target))


def parse_duration(text: str) -> float:
    """Seconds of a header such as `168h`, `90s`, `1h30m` or `5` (seconds); ValueError for anything else."""
    if text.isdigit():
        return float(text)
    units = {"h": 3600.0, "ms": 0.001, "m": 60.0, "s": 1.0}
    total, rest = 0.0, text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((name for name in ("ms", "h", "m", "s") if rest[digits:].startswith(name)), "")
        if not digits or not unit:
            raise ValueError(f"{text!r} is not a duration")
        total += float(rest[:digits]) * units[unit]
        rest = rest[digits + len(unit) :]
    if not text:
        raise ValueError("an empty duration")
    return total
