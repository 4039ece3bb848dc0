"""From what a person types to Task manifests: arguments, times and names. Pure: no clock, no I/O.

Owns the reading of ARGS (JSON, else text), `--kwarg`, `--delay`, `--deadline` and the names of a batch. The API
server's own rules (sizes, patterns) are not repeated here: it refuses with a sentence, which the command prints.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from millpond_api import API_VERSION
from millpond_api.durations import parse_duration

from millpond_cli.errors import CliError

NAME_LENGTH = 120
"""Longest name made here: readable in a table, and far below the 253 that Kubernetes allows."""


@dataclass(frozen=True)
class Work:
    """What all tasks of one command share. `not_before` and `deadline` are RFC 3339 times."""

    pool: str
    handler: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    task_class: str = ""
    not_before: str = ""
    deadline: str = ""
    ttl: str = ""


@dataclass(frozen=True)
class Naming:
    """`name` is exact (in a batch: the prefix); `generate` lets the server append five characters."""

    name: str = ""
    generate: str = ""


def parse_argument(text: str) -> Any:
    """JSON when it is JSON (`3`, `true`, `[1, 2]`, `"3"`), the text itself otherwise."""
    try:
        return read_json(text)
    except json.JSONDecodeError:
        return text


def read_json(text: str) -> Any:
    """JSON as RFC 8259 has it (no NaN). Larger integers than 64 bits are refused: Kubernetes would round them."""

    def read_integer(digits: str) -> int:
        number = int(digits)
        if not -(2**63) <= number < 2**63:
            raise CliError(f"{digits} is larger than 64 bits, which Kubernetes cannot hold: pass it as text in quotes")
        return number

    def refuse(constant: str) -> Any:
        raise json.JSONDecodeError(f"{constant} is not JSON", text, 0)

    return json.loads(text, parse_int=read_integer, parse_constant=refuse)


def write_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def parse_kwargs(pairs: Iterable[str]) -> dict[str, Any]:
    """`k=v` pairs, values as in `parse_argument`."""
    kwargs: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.isidentifier():
            raise CliError(f"--kwarg {pair!r} is not NAME=VALUE with a Python name, such as --kwarg depth=3")
        if key in kwargs:
            raise CliError(f"--kwarg {key} is given twice")
        kwargs[key] = parse_argument(value)
    return kwargs


def parse_lines(lines: Iterable[str]) -> list[list[Any]]:
    """The arguments of each task of a batch: a line is a JSON array of arguments, or one argument as plain text."""
    batch: list[list[Any]] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if not text.startswith("["):
            batch.append([text])
            continue
        try:
            batch.append(read_json(text))
        except json.JSONDecodeError as error:
            raise CliError(f"line {number} starts with [ but is not a JSON array: {error}") from None
    return batch


def parse_seconds(text: str, option: str) -> float:
    """Seconds of a duration option; CliError that names the option."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise CliError(f"{option} {error}") from None


def parse_moment(text: str, option: str, now: datetime) -> str:
    """An RFC 3339 time from a duration (from now) or a time with a zone."""
    if re.match(r"^\d{4}-", text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise CliError(f"{option} {text!r} is not a time such as 2030-01-31T12:00:00Z") from None
        if moment.tzinfo is None:
            raise CliError(f"{option} {text!r} names no time zone: end it with Z or an offset such as +02:00")
        return text
    return (now + timedelta(seconds=parse_seconds(text, option))).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_past(text: str, option: str, now: datetime) -> datetime:
    """A moment that has been: `-10m` or `10m` before now, or a time with a zone."""
    if re.match(r"^\d{4}-", text):
        return datetime.fromisoformat(parse_moment(text, option, now))
    return now - timedelta(seconds=parse_seconds(text.removeprefix("-"), option))


def make_task(work: Work, args: list[Any], naming: Naming) -> dict[str, Any]:
    """One Task manifest."""
    metadata = {"name": naming.name} if naming.name else {"generateName": naming.generate or prefix(work.handler)}
    optional = {
        "args": args,
        "kwargs": work.kwargs,
        "class": work.task_class,
        "notBefore": work.not_before,
        "deadline": work.deadline,
        "ttlAfterFinished": work.ttl,
    }
    spec = {"pool": work.pool, "handler": work.handler, **{key: value for key, value in optional.items() if value}}
    return {"apiVersion": API_VERSION, "kind": "Task", "metadata": metadata, "spec": spec}


def make_batch(work: Work, batch: list[list[Any]], naming: Naming) -> list[dict[str, Any]]:
    """One manifest for each line. With a name they are called `<name>-<slug of the arguments>`, so that submitting the
    same file again meets the same objects instead of doing the work twice."""
    if not naming.name:
        return [make_task(work, args, naming) for args in batch]
    names = batch_names(naming.name, batch)
    return [make_task(work, args, Naming(name)) for args, name in zip(batch, names, strict=True)]


def batch_names(name: str, batch: list[list[Any]]) -> list[str]:
    """Distinct names, the same for the same arguments: where two lines would share a slug, a hash tells them apart."""
    slugs = [slug(" ".join(a if isinstance(a, str) else write_json(a) for a in args)) for args in batch]
    first = {s: write_json(args) for s, args in zip(reversed(slugs), reversed(batch), strict=True)}
    names: list[str] = []
    for text, args in zip(slugs, batch, strict=True):
        raw = write_json(args)
        mark = "" if first[text] == raw else f"-{digest(raw)}"
        names.append(f"{name}-{text}{mark}")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise CliError(f"two lines have the same arguments (task {twice}): use --generate-name to run both")
    return names


def slug(text: str) -> str:
    """`text` as part of a Kubernetes name; long texts keep their end, which tells paths apart, and a hash."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not plain:
        return digest(text)
    if len(plain) <= NAME_LENGTH:
        return plain
    return f"{digest(text)}-{plain[-(NAME_LENGTH - 9) :].strip('-')}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def prefix(handler: str) -> str:
    """The `generateName` for a handler's tasks: `census.parse` becomes `census-parse-`."""
    return f"{slug(handler)}-"
