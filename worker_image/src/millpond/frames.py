"""The bytes of NATS' client protocol that the SDK writes and reads itself: publishes, messages, header blocks. Pure.

Owns their format (docs.nats.io, "Client Protocol"; header blocks: NATS ADR-4) and nothing else. It does no I/O and
never raises for what a peer sent: a header line that is none is left out, bytes that are no UTF-8 become U+FFFD.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from millpond.answers import Message

_VERSION = b"NATS/1.0"
_NO_HEADERS: Mapping[str, str] = {}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NEWLINES = str.maketrans("\r\n", "  ")


def encode_publish(subject: str, reply: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """PUB, or HPUB with headers. A name that is no token is left out, a newline in a value becomes a space."""
    if not headers:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(body), body)
    block = encode_headers(headers)
    sizes = (len(block), len(block) + len(body))
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject.encode(), reply.encode(), *sizes, block, body)


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """The header block with its empty line."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if _is_name(name)]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        text = "".join(f"{name}: {v.translate(_NEWLINES)}\r\n" for name, v in headers.items() if _is_name(name))
    return b"%b\r\n%b\r\n" % (_VERSION, text.encode(errors="replace"))


def parse_headers(block: bytes) -> dict[str, str]:
    """The headers of a block; those of a status line (`NATS/1.0 404 No Messages`) as `Status` and `Description`."""
    lines = block.decode(errors="replace").split("\r\n")
    found: dict[str, str] = {}
    if len(lines[0]) > len(_VERSION) and (status := lines[0][len(_VERSION) :].strip()):
        code, _, description = status.partition(" ")
        if code.isdigit():
            found["Status"] = code
        if description:
            found["Description"] = description
    # The last two are empty: the block ends with an empty line.
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if colon and _is_name(name):
            found[name] = value.strip()
    return found


def parse_message(words: list[bytes], block: bytes, body: bytes) -> Message:
    """The message of a control line `MSG subject sid [reply] size` (HMSG: two sizes) with what followed it."""
    reply = words[3].decode() if len(words) == (6 if block else 5) else ""
    return Message(words[1].decode(), reply, parse_headers(block) if block else _NO_HEADERS, body)


@lru_cache(maxsize=1024)
def _is_name(name: str) -> bool:
    """Whether it may name a header; the few names of a process are looked at once."""
    return _NAME.fullmatch(name) is not None
