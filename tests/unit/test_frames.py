"""Our reader and writer of NATS' client protocol say what nats-py's say, however the bytes are cut on their way."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millpond.answers import Message
from millpond.connection import Connection, Reader
from millpond.frames import encode_headers, encode_publish, parse_headers
from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol import command

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), max_size=40)
HEADERS = st.dictionaries(NAMES, VALUES, max_size=4)
SUBJECTS = st.from_regex(r"[a-z]{1,8}(\.[a-z0-9_-]{1,8}){0,4}", fullmatch=True)
BODIES = st.binary(max_size=200) | st.sampled_from([b"\r\n", b"MSG a 1 5\r\nhello\r\n", b"PING\r\n"])


SLOW = settings(suppress_health_check=[HealthCheck.too_slow])
"""A shared machine is slow at times, and that says nothing of the code."""


class Peer(Connection):
    """A connection that no server is behind: it notes what the reader hands to it."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []
        self._error_cb = self._note_error

    async def _process_ping(self) -> None:
        self.noted.append("ping")

    async def _process_err(self, err_msg: str) -> None:
        self.noted.append(err_msg)

    async def _note_error(self, error: Exception) -> None:
        self.noted.append(repr(error))


def read(chunks: list[bytes], listener: Any = None) -> tuple[list[Message], Peer]:
    """What a listener on subscription 7 gets from bytes that arrive in these pieces."""
    found: list[Message] = []
    peer = Peer()
    reader = Reader(peer, {b"7": listener or found.append})

    async def feed() -> None:
        for chunk in chunks:
            await reader.parse(chunk)

    asyncio.run(feed())
    return found, peer


def frame(subject: str, reply: str, body: bytes, headers: dict[str, str]) -> bytes:
    """As the server sends it to subscription 7."""
    first = f"{subject} 7 {reply}".strip()
    if not headers:
        return f"MSG {first} {len(body)}\r\n".encode() + body + b"\r\n"
    block = encode_headers(headers)
    return f"HMSG {first} {len(block)} {len(block) + len(body)}\r\n".encode() + block + body + b"\r\n"


MESSAGES = st.lists(st.tuples(SUBJECTS, st.just("") | SUBJECTS, BODIES, HEADERS), max_size=5)


@SLOW
@given(MESSAGES, st.lists(st.integers(0, 600), max_size=6))
def test_messages_are_the_same_wherever_the_stream_is_cut(
    messages: list[tuple[str, str, bytes, dict[str, str]]], cuts: list[int]
) -> None:
    stream = b"PING\r\n".join(frame(*one) for one in messages)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    found, peer = read([stream[a:b] for a, b in itertools.pairwise(edges)])
    assert [(one.subject, one.reply, one.body, dict(one.headers)) for one in found] == messages
    assert peer.noted == ["ping"] * max(0, len(messages) - 1)


@SLOW
@given(SUBJECTS, SUBJECTS, BODIES)
def test_a_publish_has_the_bytes_that_nats_py_sends(subject: str, reply: str, body: bytes) -> None:
    assert encode_publish(subject, reply, body) == command.pub_cmd(subject, reply, body)
    block = encode_headers({"Mp-Envelope": '{"v":1}'})
    sent = encode_publish(subject, reply, body, {"Mp-Envelope": '{"v":1}'})
    assert sent == command.hpub_cmd(subject, reply, block, body)


@SLOW
@given(HEADERS)
def test_headers_are_read_as_nats_py_reads_them(headers: dict[str, str]) -> None:
    block = encode_headers(headers)
    assert parse_headers(block) == headers
    assert asyncio.run(Client()._process_headers(block)) == (headers or None)


@pytest.mark.parametrize("line", [b"NATS/1.0 404\r\n\r\n", b"NATS/1.0 409 Consumer Deleted\r\nA: b\r\n\r\n"])
def test_a_status_is_read_as_nats_py_reads_it(line: bytes) -> None:
    assert parse_headers(line) == asyncio.run(Client()._process_headers(line))


@SLOW
@given(st.text(max_size=30), st.text(max_size=30))
def test_no_header_can_smuggle_in_another_one_or_a_command(name: str, value: str) -> None:
    block = encode_headers({"First": "1", name: value, "Last": "2"})
    found = parse_headers(block)
    assert set(found) <= {"First", "Last", name}
    assert block.endswith(b"\r\n\r\n")
    assert block.count(b"\r\n") == len(found) + 2


def test_a_listener_that_raises_ends_nothing() -> None:
    seen = []

    def listener(message: Message) -> None:
        seen.append(message.body)
        if len(seen) == 1:
            raise ValueError("not mine")

    _, peer = read([frame("a", "", b"1", {}) + frame("a", "", b"2", {})], listener)
    assert seen == [b"1", b"2"]
    assert peer.noted == ["ValueError('not mine')"]


@pytest.mark.parametrize("stream", [b"MSG a 7 x\r\n", b"HMSG 5\r\n", b"GET / HTTP/1.1\r\n", b"x" * 70_000])
def test_what_is_not_nats_ends_the_connection(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        read([stream])


def test_an_error_of_the_server_reaches_nats_py_in_lower_case() -> None:
    _, peer = read([b"-ERR 'Permissions Violation for Publish'\r\n"])
    assert peer.noted == ["'permissions violation for publish'"]
